"""Stage ``fuse``: from the boxes and masks of all sentences to instances the target may be.

WSRVOS, positive-prediction fusion: M_t = [ sigmoid( sum_k w_k s_kt ) > threshold ], with
w_k = c_k / sum_j c_j; c_k is here a positive's confidence times its similarity. Logits of different
instances do not add up to a mask, so the sum runs within an instance: boxes of a frame that overlap
are one, and the positives vote for it. The negatives gate: an instance that a negative takes for
its own with more right is not the target.

Letters: K positives, N negatives, T frames, Q candidates of a frame, I instances of a frame,
P hypotheses kept of them, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FuseConfig
from pipeline.geometry import box_iou
from pipeline.types import Augmentation, Boxes, Candidates, Hypotheses, Status

VERSION = 1
"""Goes into fingerprints; raised when the same configuration gives other hypotheses."""

NOTHING_FOUND = "no box found"
UNCLAIMED = "no expression claims the box"
CLAIMED_BY_NEGATIVE = "a negative claims the box"
IN_DOUBT = "in doubt between present and absent"


@dataclass(frozen=True)
class _Frame:
    """The instances of one frame.

    Attributes:
        row: int [I], the box that stands for each instance: its best supported.
        score: float [K + N, I], each sentence's best score for each instance, 0 without a box.
        first: bool [K + N, I], whether a sentence's best box is of the instance.
        candidate: int [K + N, I], the sentence's candidate in the instance, -1 without one.
        found: bool [K + N], whether a sentence has any box in the frame.
    """

    row: NDArray[np.intp]
    score: NDArray[np.float64]
    first: NDArray[np.bool_]
    candidate: NDArray[np.intp]
    found: NDArray[np.bool_]


def fuse(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[Candidates],
    config: FuseConfig,
) -> Hypotheses:
    """Fuses the predictions of all positives of one sample, gated by its negatives.

    Args:
        augmentation: the sample's positives and negatives; each is one of ``texts``.
        texts: the sentences of the whole video.
        boxes: T frames' boxes; their ``text`` is a row of ``texts``.
        candidates: T frames' masks; their ``box_row`` answers ``boxes`` row for row.
        config: thresholds.

    Returns:
        Per frame up to P instances, best first, and what the gate says of the frame. A frame
        without boxes has count 0.
    """
    frames, kept = len(boxes), config.hypotheses
    shape = next((item.logits.shape[1:] for item in candidates if len(item)), (1, 1))
    found = Hypotheses(
        key=augmentation.key,
        logits=np.zeros((frames, kept, *shape), np.float16),
        count=np.zeros(frames, np.int32),
        box=np.zeros((frames, kept, 4), np.float32),
        score=np.zeros((frames, kept), np.float32),
        box_score=np.zeros((frames, kept), np.float32),
        agreement=np.zeros((frames, kept), np.float32),
        negative_margin=np.zeros((frames, kept), np.float32),
        predicted_iou=np.zeros((frames, kept), np.float32),
        stability=np.zeros((frames, kept), np.float32),
        status=np.full(frames, Status.ABSENT, np.uint8),
        reason=(),
    )
    sentence_of = _sentence_rows(augmentation, texts)
    weight = np.array([item.confidence * item.similarity for item in augmentation.positives])
    weight = weight / weight.sum()
    positives = len(weight)
    seen = [
        _instances(boxes[t], candidates[t], sentence_of, positives, config.same_box_iou)
        for t in range(frames)
    ]
    telling = telling_negatives(
        [
            (weight @ item.score[:positives], item.first[positives:], item.found[positives:])
            for item in seen
            if item
        ],
        len(augmentation.negatives),
        config.telling_share,
    )
    reasons = [
        _fuse_frame(found, t, seen[t], boxes[t], candidates[t], weight, telling, config)
        for t in range(frames)
    ]
    return Hypotheses(**{**vars(found), "reason": tuple(reasons)})


def telling_negatives(
    frames: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]],
    negatives: int,
    share: float,
) -> NDArray[np.bool_]:
    """The negatives that the grounder can tell from the positives.

    A negative that most often takes the very instance that the positives take (another movement,
    which no single frame shows; an attribute that the model does not see) says nothing of it. One
    that has an instance of its own in the video objects with right where the positives take that.

    Args:
        frames: for each frame with boxes, the positives' support [I], whether a negative's best
            box is of the instance, bool [N, I], and whether it has any, bool [N].
        negatives: N.
        share: a negative is telling if it takes the positives' best instance in at most this share
            of the frames that have a box of its.

    Returns:
        bool [N].
    """
    together, shown = np.zeros(negatives), np.zeros(negatives)
    for support, first, found in frames:
        shown += found
        together += first[:, int(support.argmax())]
    telling: NDArray[np.bool_] = together <= share * shown
    return telling


def _sentence_rows(augmentation: Augmentation, texts: Sequence[str]) -> dict[int, list[int]]:
    """Row in the video's texts -> rows among the sample's K + N sentences, positives first."""
    row_of = {text: row for row, text in enumerate(texts)}
    rows: dict[int, list[int]] = {}
    said = [item.text for item in augmentation.positives]
    said += [item.text for item in augmentation.negatives]
    for sentence, text in enumerate(said):
        rows.setdefault(row_of[text], []).append(sentence)
    return rows


def _fuse_frame(
    found: Hypotheses,
    index: int,
    frame: _Frame | None,
    boxes: Boxes,
    candidates: Candidates,
    weight: NDArray[np.float64],
    telling: NDArray[np.bool_],
    config: FuseConfig,
) -> str:
    """Fills one frame of ``found``; returns the reason, empty where the target is present."""
    if frame is None:
        return NOTHING_FOUND
    positives = len(weight)
    support = weight @ frame.score[:positives]
    agreement = weight @ frame.first[:positives]
    claims = (frame.score * frame.first)[positives:][telling]
    claim = claims.max(axis=0, initial=0.0)
    margin = support - claim
    score = support - config.negative_weight * np.maximum(claim - support, 0)
    best = np.argsort(-score, kind="stable")[: config.hypotheses]
    found.count[index] = len(best)
    for place, instance in enumerate(best):
        member = frame.candidate[:positives, instance]
        mask, quality, stability = _fused_mask(candidates, member, weight)
        found.logits[index, place] = mask
        found.predicted_iou[index, place] = quality
        found.stability[index, place] = stability
        found.box[index, place] = boxes.xyxy[frame.row[instance]]
        found.score[index, place] = score[instance]
        found.box_score[index, place] = frame.score[0, instance]
        found.agreement[index, place] = agreement[instance]
        found.negative_margin[index, place] = margin[instance]
    status, reason = _gate(float(support[best[0]]), float(margin[best[0]]), config)
    found.status[index] = status
    return reason


def _gate(support: float, margin: float, config: FuseConfig) -> tuple[Status, str]:
    if support < config.presence:
        return Status.ABSENT, UNCLAIMED
    if margin < -config.claim_margin:
        return Status.ABSENT, CLAIMED_BY_NEGATIVE
    if support < config.doubt or margin < -config.claim_margin / 2:
        return Status.UNKNOWN, IN_DOUBT
    return Status.PRESENT, ""


def _instances(
    boxes: Boxes,
    candidates: Candidates,
    sentence_of: Mapping[int, list[int]],
    positives: int,
    same_box_iou: float,
) -> _Frame | None:
    """Groups the boxes of the sample's sentences; None where no positive has a box."""
    rows = [
        (row, sentence)
        for row, text in enumerate(boxes.text.tolist())
        for sentence in sentence_of.get(text, ())
    ]
    if not any(sentence < positives for _, sentence in rows):
        return None
    sentences = 1 + max(max(group) for group in sentence_of.values())
    order = sorted(rows, key=lambda item: (item[1] >= positives, -float(boxes.score[item[0]])))
    distinct = list(dict.fromkeys(row for row, _ in order))
    overlap = box_iou(boxes.xyxy[distinct], boxes.xyxy[distinct])
    instance_of: dict[int, int] = {}
    leaders: list[int] = []
    for place, row in enumerate(distinct):
        near = [i for i, leader in enumerate(leaders) if overlap[place, leader] >= same_box_iou]
        if near:
            instance_of[row] = max(near, key=lambda i: overlap[place, leaders[i]])
        else:
            instance_of[row] = len(leaders)
            leaders.append(place)
    count = len(leaders)
    score = np.zeros((sentences, count))
    first = np.zeros((sentences, count), np.bool_)
    candidate = np.full((sentences, count), -1, np.intp)
    for row, sentence in order:  # a sentence's boxes come best first
        instance = instance_of[row]
        first[sentence, instance] |= boxes.rank[row] == 0
        if candidate[sentence, instance] < 0:
            score[sentence, instance] = boxes.score[row]
            candidate[sentence, instance] = candidates.box_row[row]
    leader_rows = np.array([distinct[place] for place in leaders], np.intp)
    led = (candidate[:positives] >= 0).any(axis=0)  # instances that only negatives see are theirs
    seen: NDArray[np.bool_] = np.asarray(first.any(axis=1))
    return _Frame(leader_rows[led], score[:, led], first[:, led], candidate[:, led], seen)


def _fused_mask(
    candidates: Candidates, member: NDArray[np.intp], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float16], float, float]:
    """Confidence-weighted logits of the positives that see the instance (WSRVOS), with the
    weighted mean of their predicted IoU and stability."""
    voters = np.flatnonzero(member >= 0)
    share = weight[voters] / weight[voters].sum()
    distinct, place = np.unique(member[voters], return_inverse=True)
    share = np.bincount(place, weights=share, minlength=len(distinct))
    logits = np.tensordot(share, candidates.logits[distinct].astype(np.float32), axes=1)
    quality = float(share @ candidates.predicted_iou[distinct])
    return logits.astype(np.float16), quality, float(share @ candidates.stability[distinct])
