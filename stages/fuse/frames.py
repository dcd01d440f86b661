"""Fusion frame by frame: which instance of each frame the target may be.

WSRVOS, positive-prediction fusion: M_t = [ sigmoid( sum_k w_k s_kt ) > threshold ], with
w_k = c_k / sum_j c_j. Here c_k is a positive's confidence times its similarity. Logits of different
instances do not add up to a mask, so the sum runs within an instance. Boxes of a frame that overlap
are one instance, and the positives vote for it. The negatives are a gate: an instance that a
negative scores higher than the positives do is not the target.

Letters: K positives, N negatives, T frames, Q candidates of a frame, I instances of a frame,
P hypotheses kept of them, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FuseConfig
from pipeline.geometry import box_iou
from pipeline.types import Augmentation, Boxes, CandidateScores, Hypotheses, Status
from stages.fuse.votes import (
    CLAIMED_BY_NEGATIVE,
    IN_DOUBT,
    NOTHING_FOUND,
    UNCLAIMED,
    Instances,
    Sentences,
    fill,
    no_hypotheses,
    with_votes,
)


def fuse_frames(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    config: FuseConfig,
) -> Hypotheses:
    """Fuses the predictions of all positives of one sample, gated by its negatives.

    Args:
        augmentation: the sample's positives and negatives; each is one of ``texts``.
        texts: the sentences of the whole video.
        boxes: T frames' boxes; their ``text`` is a row of ``texts``.
        candidates: of each of the T frames; their ``box_row`` answers ``boxes`` row for row.
        config: thresholds.

    Returns:
        Per frame up to P instances, best first, and what the gate says of the frame. A frame
        without boxes has count 0.
    """
    augmentation, weight = with_votes(augmentation)
    found = no_hypotheses(augmentation, len(boxes), config.hypotheses)
    seen, telling = judged_frames(augmentation, weight, texts, boxes, candidates, config)
    reasons = [
        _fuse_frame(found, t, frame, boxes[t], candidates[t], weight, telling, config)
        if frame
        else NOTHING_FOUND
        for t, frame in enumerate(seen)
    ]
    return Hypotheses(**{**vars(found), "reason": tuple(reasons)})


def judged_frames(
    augmentation: Augmentation,
    weight: NDArray[np.float64],
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    config: FuseConfig,
) -> tuple[list[Instances | None], NDArray[np.bool_]]:
    """Returns what a sample's sentences say of the instances of each frame, and which negatives
    count, bool [N].

    Args:
        augmentation: the sample with the positives that have a vote.
        weight: float64 [K], of these.
    """
    sentence_of = Sentences(augmentation, texts)
    positives = len(weight)
    seen = [
        _instances(boxes[t], item.box_row, sentence_of, positives, config.same_box_iou)
        for t, item in enumerate(candidates)
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
    return seen, telling


def telling_negatives(
    frames: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]],
    negatives: int,
    share: float,
) -> NDArray[np.bool_]:
    """Returns which negatives the grounder can tell from the positives.

    A negative whose best box is most often the positives' best instance is no evidence against it:
    it may name another movement, which no single frame shows, or an attribute that the model does
    not see. A negative with an instance of its own in the video is evidence against that instance.

    Args:
        frames: for each frame with boxes, the positives' support [I], whether a negative's best
            box is of the instance, bool [N, I], and whether it has any, bool [N].
        negatives: N.
        share: a negative is telling if its best box is the positives' best instance in at most this
            share of the frames that have a box for it.

    Returns:
        bool [N].
    """
    together, shown = np.zeros(negatives), np.zeros(negatives)
    for support, first, found in frames:
        shown += found
        together += first[:, int(support.argmax())]
    telling: NDArray[np.bool_] = together <= share * shown
    return telling


def _fuse_frame(
    found: Hypotheses,
    index: int,
    frame: Instances,
    boxes: Boxes,
    candidates: CandidateScores,
    weight: NDArray[np.float64],
    telling: NDArray[np.bool_],
    config: FuseConfig,
) -> str:
    """Fills one frame of ``found``; returns the reason, empty where the target is present."""
    support, margin, score = scores_of(frame, weight, telling, config)
    best = np.argsort(-score, kind="stable")[: config.hypotheses]
    fill(found, index, frame, best, score, margin, boxes, candidates, weight)
    status, reason = gate(float(support[best[0]]), float(margin[best[0]]), config)
    found.status[index] = status
    return reason


def scores_of(
    frame: Instances,
    weight: NDArray[np.float64],
    telling: NDArray[np.bool_],
    config: FuseConfig,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns support, margin and score of each instance of a frame: three float64 [I]."""
    support, margin = frame.margin(weight, telling)
    return support, margin, support - config.negative_weight * np.maximum(-margin, 0)


def gate(support: float, margin: float, config: FuseConfig) -> tuple[Status, str]:
    """Judges a frame by the support and the margin of its best instance."""
    if support < config.absent_below:
        return Status.ABSENT, UNCLAIMED
    if margin < -config.claim_margin:
        return Status.ABSENT, CLAIMED_BY_NEGATIVE
    if support < config.uncertain_below or margin < -config.claim_margin / 2:
        return Status.UNKNOWN, IN_DOUBT
    return Status.PRESENT, ""


def _instances(
    boxes: Boxes,
    box_row: NDArray[np.int32],
    sentence_of: Sentences,
    positives: int,
    same_box_iou: float,
) -> Instances | None:
    """Groups the boxes of the sample's sentences; None where no positive has a box.

    The best box that is near no leader leads an instance of its own, the positives' boxes before
    the negatives'; any other is of the instance whose leader, of those before it, it overlaps most.
    """
    rows, sentence = sentence_of.answers(boxes.text)
    if not (sentence < positives).any():
        return None
    order = np.lexsort((-boxes.score[rows].astype(np.float64), sentence >= positives))
    rows, sentence = rows[order], sentence[order]
    _, at = np.unique(rows, return_index=True)
    distinct = rows[np.sort(at)]
    leaders, instance = _led(boxes.xyxy[distinct], same_box_iou)
    place = np.empty(len(boxes), np.intp)
    place[distinct] = np.arange(len(distinct))
    own = instance[place[rows]]
    shape = (sentence_of.count, len(leaders))
    all_of = Instances.of(boxes, box_row, rows, sentence, own, shape, distinct[leaders])
    # Instances that only negatives see are theirs.
    return all_of.only(np.asarray((all_of.candidate[:positives] >= 0).any(axis=0)))


def _led(
    boxes: NDArray[np.float32], same_box_iou: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the boxes [n, 4] that lead an instance, and the instance of each box [n]."""
    leaders: list[int] = []
    overlaps: list[NDArray[np.float64]] = []
    near = np.zeros(len(boxes), np.bool_)
    while not near.all():
        leader = int(near.argmin())
        overlap = box_iou(boxes[leader : leader + 1], boxes)[0]
        overlap[:leader] = -1  # what came before it did not know it
        leaders.append(leader)
        overlaps.append(np.where(overlap >= same_box_iou, overlap, -1))
        near |= overlaps[-1] >= 0
        near[leader] = True
    instance = np.stack(overlaps).argmax(axis=0)
    instance[leaders] = np.arange(len(leaders))
    return np.array(leaders, np.intp), instance
