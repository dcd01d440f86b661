"""Stage ``rank``: temporal segment ranking as a filter (WSRVOS).

Overlaps must fall with temporal distance: for t < l < n, IoU(M_t, M_n) may not exceed
IoU(M_t, M_l) or IoU(M_l, M_n) by more than epsilon. A frame l in the middle of many triples that
break this order shows another object than its neighbours. A runner-up that fixes the order replaces
its hypothesis; if there is none, the frame is rejected.

Letters: T frames, P hypotheses, h w low-resolution cells, H W pixels, W the window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.config import RankConfig
from pipeline.geometry import mean_of_neighbours, pairwise_mask_iou
from pipeline.packed_masks import PackedMasks
from pipeline.types import Candidates, FrameQuality, Hypotheses, PseudoMask, Status, VideoRef
from stages.common.boxes import pairwise_giou
from stages.common.mask_resolution import mask_above

CLEAR_LEAD = 0.6
"""A lead of this share or more leaves no doubt which object is meant. `benchmarks/weights.py`
measures what a weight tells of the true overlap."""

LEAST_LEAD = 0.05
"""A frame that is present keeps some weight, however close its rival is."""

OUT_OF_ORDER = "breaks the temporal order"
EMPTY_MASK = "the mask is empty"


@dataclass(frozen=True)
class Ranking:
    """The hypothesis of each frame, and how well the frames follow each other.

    Attributes:
        chosen: int64 [T], the hypothesis that was chosen; -1 in a frame that is not present.
        violation: float64 [T], share of the triples with this frame in the middle that break the
            order; 0 if there are none.
        temporal_iou: float64 [T], mean IoU with the nearest present frame on either side; NaN if
            there are none.
    """

    chosen: NDArray[np.int64]
    violation: NDArray[np.float64]
    temporal_iou: NDArray[np.float64]


def rank(
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    video: VideoRef,
    config: RankConfig,
    fingerprint: str,
    calibration: Calibration | None = None,
    trust: float = 1.0,
) -> tuple[PseudoMask, list[FrameQuality]]:
    """Chooses, filters and enlarges the masks of one sample.

    Args:
        hypotheses: of stage ``fuse``.
        candidates: of stage ``segment``, T frames; their logits make the masks.
        video: the sample's video; its frames' names and size are used, and no frame is read.
        config: the threshold of a pixel, and which frames are rejected.
        fingerprint: stored with the mask.
        calibration: of the grounder's scores; None if they stand for no probability.
        trust: all weights are multiplied with it, in [0, 1]; below 1 if a judge was of two minds.

    Returns:
        The pseudo-mask, and one row of quality figures per frame.
    """
    ranking = rank_frames(hypotheses, candidates, config)
    status, reason = hypotheses.status.copy(), list(hypotheses.reason)
    if config.enabled:
        for index in np.flatnonzero(ranking.violation > config.maximum_violation).tolist():
            status[index], reason[index] = Status.UNKNOWN, OUT_OF_ORDER
    mask = PackedMasks(len(video), video.height, video.width)
    cut = _logit(config.threshold)
    for index in np.flatnonzero(status == Status.PRESENT).tolist():
        logits = target_logits(hypotheses, candidates, index, int(ranking.chosen[index]))
        mask[index] = mask_above(logits, video.height, video.width, cut).numpy()
        if mask.packed(index) is None:
            status[index], reason[index] = Status.UNKNOWN, EMPTY_MASK
    weight = _weights(hypotheses, ranking, status, calibration) * np.float32(trust)
    rows = [
        _quality(hypotheses, ranking, video, index, weight, status, reason[index])
        for index in range(len(video))
    ]
    return PseudoMask(hypotheses.key, mask, weight, status, fingerprint), rows


def rank_frames(
    hypotheses: Hypotheses, candidates: Sequence[Candidates], config: RankConfig
) -> Ranking:
    """Chooses one hypothesis per frame and counts the triples that break the order."""
    present = np.flatnonzero((hypotheses.status == Status.PRESENT) & (hypotheses.count > 0))
    chosen = np.full(len(hypotheses.status), -1, np.int64)
    chosen[present] = 0
    if config.enabled and config.swap and len(present) > 1:
        chosen[present] = smoothest_path(hypotheses, present, config.continuity)
    violation = np.zeros(len(chosen))
    temporal = np.full(len(chosen), np.nan)
    if len(present):
        cut = _logit(config.threshold)
        fused = (target_logits(hypotheses, candidates, int(t), int(chosen[t])) for t in present)
        masks = np.stack([(logits > cut).numpy() for logits in fused])
        overlap = pairwise_mask_iou(masks, masks)
        # Two empty frames are no evidence against a non-empty frame between them.
        empty = ~masks.any((1, 2))
        overlap[np.ix_(empty, empty)] = 0
        if config.enabled:
            violation[present] = order_violations(overlap, present, config.window, config.epsilon)
        temporal[present] = mean_of_neighbours(np.diagonal(overlap, 1))
    return Ranking(chosen, violation, temporal)


def target_logits(
    hypotheses: Hypotheses, candidates: Sequence[Candidates], frame: int, chosen: int
) -> torch.Tensor:
    """The mask logits of the target: those of its hypothesis, or the largest of several.

    Args:
        chosen: the hypothesis that was chosen; the first stands for all that are the target.
    """
    rows = [chosen] if chosen else range(int(hypotheses.together[frame]))
    parts = [fused_logits(hypotheses, candidates, frame, row) for row in rows]
    return parts[0] if len(parts) == 1 else torch.stack(parts).amax(0)


def fused_logits(
    hypotheses: Hypotheses, candidates: Sequence[Candidates], frame: int, row: int
) -> torch.Tensor:
    """The mask logits of a hypothesis: sum_k w_k s_k over its candidates (WSRVOS).

    Args:
        frame: position of the frame.
        row: of the hypothesis in the frame, below its count.

    Returns:
        float32 [h, w], at low resolution over the whole frame.
    """
    rows = hypotheses.candidate[frame, row]
    voters = rows >= 0
    logits = torch.from_numpy(candidates[frame].logits[rows[voters]]).float()
    share = torch.from_numpy(hypotheses.share[frame, row][voters])
    return (share[:, None, None] * logits).sum(dim=0)


def order_violations(
    overlap: NDArray[np.float64], frames: NDArray[np.intp], window: int, epsilon: float
) -> NDArray[np.float64]:
    """Returns, for each frame l, the share of the pairs t < l < n around it that break the order.

    A pair breaks it if its overlap exceeds that of t or of n with l by more than epsilon.

    Args:
        overlap: [n, n], IoU of every pair of masks.
        frames: [n], positions of the masks in the video, ascending.
        window: t and n are at most this far from l.

    Returns:
        [n] in [0, 1]; 0 for a frame that is in the middle of no pair.
    """
    share = np.zeros(len(frames))
    for middle in range(len(frames)):
        before = np.flatnonzero((frames < frames[middle]) & (frames >= frames[middle] - window))
        after = np.flatnonzero((frames > frames[middle]) & (frames <= frames[middle] + window))
        if len(before) and len(after):
            across = overlap[np.ix_(before, after)]
            nearer = np.minimum(overlap[before, middle][:, None], overlap[middle, after][None])
            share[middle] = float((across > nearer + epsilon).mean())
    return share


def smoothest_path(
    hypotheses: Hypotheses, present: NDArray[np.intp], continuity: float
) -> NDArray[np.int64]:
    """Chooses one hypothesis per present frame, for support and for continuity, by Viterbi.

    Neighbours are compared by the generalised IoU of their boxes. It falls with distance even for a
    fast object, whose masks do not overlap from frame to frame.

    Args:
        present: int [n], the present frames, ascending.
        continuity: weight of the generalised IoU against a hypothesis's score.

    Returns:
        int64 [n], the row of the hypothesis of each present frame.
    """
    total = np.where(_exists(hypotheses, present[0]), hypotheses.score[present[0]], -np.inf)
    back = []
    for before, now in itertools.pairwise(present):
        near = 1.0 / (now - before)
        # Rows past a frame's hypotheses are boxes without any area.
        link = continuity * near * pairwise_giou(hypotheses.box[before], hypotheses.box[now])
        paths = total[:, None] + link
        back.append(paths.argmax(axis=0))
        own = np.where(_exists(hypotheses, now), hypotheses.score[now], -np.inf)
        total = paths.max(axis=0) + own
    path = [int(total.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1], np.int64)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _exists(hypotheses: Hypotheses, frame: int) -> NDArray[np.bool_]:
    rows = np.arange(hypotheses.score.shape[1])
    exists: NDArray[np.bool_] = rows < hypotheses.count[frame]
    return exists


def _weights(
    hypotheses: Hypotheses,
    ranking: Ranking,
    status: NDArray[np.uint8],
    calibration: Calibration | None,
) -> NDArray[np.float32]:
    """Returns the weight of each frame: float32 [T] in [0, 1].

    A present frame has the geometric mean of predicted IoU, stability and lead, times the share of
    its triples that keep the order, times the mean of these shares: a track that changes its object
    once is less certain everywhere. Predicted IoU and stability say how well the mask fits some
    object; the lead says that it is the right one. It says nothing where there is no rival, so with
    a calibration it is the geometric mean of the lead and of the probability that an object with
    this score is the target. An absent frame has more weight the lower the margin of its best box
    is, and at least 0.25. An unknown frame has 0.
    """
    weight = np.zeros(len(status), np.float32)
    rows = np.flatnonzero(status == Status.PRESENT)
    at = ranking.chosen[rows]
    together = np.where(at == 0, hypotheses.together[rows], 1)
    lead = np.clip(leads(hypotheses.score[rows], at, together) / CLEAR_LEAD, LEAST_LEAD, 1)
    if calibration is not None:
        lead = np.sqrt(lead * calibration.of_each(hypotheses.score[rows, at]))
    product = hypotheses.predicted_iou[rows, at] * hypotheses.stability[rows, at] * lead
    keeps = 1 - ranking.violation[rows]
    weight[rows] = np.cbrt(np.clip(product, 0, 1)) * keeps * (keeps.mean() if len(keeps) else 1)
    absent = status == Status.ABSENT
    best = np.where(hypotheses.count > 0, hypotheses.negative_margin[:, 0], -1.0)
    weight[absent] = np.clip(0.5 - best[absent], 0.25, 1.0)
    return weight


def leads(
    score: NDArray[np.float32], chosen: NDArray[np.int64], together: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Returns how far the chosen hypotheses are ahead of the best others, as shares of their score.

    A score is the support by the positives less what the negatives claim. As a share, a lead does
    not depend on how high a grounder's scores are.

    Args:
        score: [n, P], of the hypotheses of n frames; 0 past the last.
        chosen: [n], the hypothesis that was chosen.
        together: [n], number of hypotheses from the chosen one on that are the target together. The
            one that scores lowest has to be ahead of the others.

    Returns:
        [n], at most 1, which is for one without a rival; below 0 if another scores higher.
    """
    rows = np.arange(len(score))
    own = score[rows, chosen + together - 1].astype(np.float64)
    others = score.astype(np.float64)
    place = np.arange(score.shape[1])
    others[(place >= chosen[:, None]) & (place < (chosen + together)[:, None])] = 0
    lead: NDArray[np.float64] = (own - np.maximum(others.max(1), 0)) / np.maximum(own, 1e-6)
    return lead


def _quality(
    hypotheses: Hypotheses,
    ranking: Ranking,
    video: VideoRef,
    index: int,
    weight: NDArray[np.float32],
    status: NDArray[np.uint8],
    reason: str,
) -> FrameQuality:
    row = max(int(ranking.chosen[index]), 0)
    return FrameQuality(
        video=hypotheses.key.video,
        expression=hypotheses.key.expression,
        frame=index,
        frame_name=video.frames[index],
        box_score=float(hypotheses.box_score[index, row]),
        predicted_iou=float(hypotheses.predicted_iou[index, row]),
        stability=float(hypotheses.stability[index, row]),
        agreement=float(hypotheses.agreement[index, row]),
        temporal_iou=float(ranking.temporal_iou[index]),
        negative_margin=float(hypotheses.negative_margin[index, row]),
        weight=float(weight[index]),
        status=int(status[index]),
        reason=reason,
    )
