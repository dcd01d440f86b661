"""The part of stage ``rank`` that does what people decided about a sample.

Letters: T frames, H W pixels, P hypotheses of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import RankConfig
from pipeline.decisions import ABSENT, KEPT, Verdict
from pipeline.packed_masks import PackedMasks
from pipeline.tracks import hypothesis_of
from pipeline.types import Candidates, FrameQuality, Hypotheses, PseudoMask, Status, Tracks
from stages.common.mask_resolution import mask_above
from stages.rank import EMPTY_MASK, fused_logits

REJECTED = "rejected by a person"
SAID_ABSENT = "absent, says a person"
CHOSEN = "chosen by a person"
NOT_THERE = "the track that a person chose is not seen"

SURE = 1.0
"""Weight of a frame that a person vouches for."""

NOT_LOOKED_AT = 0.5
"""Weight of a frame without the track that a person chose: nobody looked at this frame alone."""


def apply_verdict(
    verdict: Verdict,
    mask: PseudoMask,
    rows: Sequence[FrameQuality],
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    tracks: Tracks,
    config: RankConfig,
) -> tuple[PseudoMask, list[FrameQuality]]:
    """Returns the mask and the quality of a sample after what people decided about it.

    A rejected sample is unknown in every frame. A frame of a chosen track gets the track's mask and
    the weight 1. An accepted sample has the weight 1 in every frame that is not unknown.

    Args:
        verdict: about the sample.
        mask: as ``rank`` made it.
        rows: its quality, a row per frame.
        hypotheses: of stage ``fuse``.
        candidates: of stage ``segment``, T frames.
        tracks: of stage ``track``.
        config: of ``rank``.
    """
    frames, height, width = mask.mask.shape
    status, weight = mask.status.copy(), mask.weight.copy()
    masks, figures = PackedMasks(frames, height, width), list(rows)
    reason = [row.reason for row in rows]
    for index, said in enumerate(verdict.frames(frames).tolist()):
        found: NDArray[np.bool_] | None = None
        if verdict.judged == "reject":
            status[index], weight[index], reason[index] = Status.UNKNOWN, 0, REJECTED
        elif said == KEPT:
            found = mask.mask[index]
        elif said == ABSENT:
            status[index], weight[index], reason[index] = Status.ABSENT, SURE, SAID_ABSENT
        else:
            size = height, width
            found = track_mask(hypotheses, candidates, tracks, index, said, size, config)
            status[index], weight[index], reason[index] = _of_chosen(found)
            figures[index] = _measured(rows[index], hypotheses, candidates, tracks, said)
        if found is not None:
            masks[index] = found
    if verdict.judged == "accept":
        weight[status != Status.UNKNOWN] = SURE
    told = [
        replace(row, weight=float(weight[t]), status=int(status[t]), reason=reason[t])
        for t, row in enumerate(figures)
    ]
    return replace(mask, mask=masks, weight=weight, status=status), told


def _of_chosen(mask: NDArray[np.bool_] | None) -> tuple[Status, float, str]:
    """Returns status, weight and reason of a frame of a chosen track, by its mask there."""
    if mask is None:
        return Status.ABSENT, NOT_LOOKED_AT, NOT_THERE
    if not mask.any():
        return Status.UNKNOWN, 0.0, EMPTY_MASK
    return Status.PRESENT, SURE, CHOSEN


def track_mask(
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    tracks: Tracks,
    frame: int,
    track: int,
    size: tuple[int, int],
    config: RankConfig,
) -> NDArray[np.bool_] | None:
    """Returns the mask [H, W] of a track in a frame; None where the track is not.

    If a hypothesis of the sample is of the track, the mask is the hypothesis's. Else it is that of
    the track's best candidate.
    """
    row = hypothesis_of(hypotheses, tracks, frame, track)
    if row is not None:
        logits = fused_logits(hypotheses, candidates, frame, row)
    else:
        best = _best_candidate(candidates[frame], tracks.of_candidate[frame], track)
        if best is None:
            return None
        logits = torch.from_numpy(candidates[frame].logits[best]).float()
    cut = math.log(config.threshold / (1 - config.threshold))
    mask: NDArray[np.bool_] = mask_above(logits, *size, cut).numpy()
    return mask


def _best_candidate(
    candidates: Candidates, of_candidate: NDArray[np.int32], track: int
) -> int | None:
    mine = np.flatnonzero(of_candidate == track)
    if not len(mine):
        return None
    fit = candidates.predicted_iou[mine] * candidates.stability[mine]
    return int(mine[fit.argmax()])


def _measured(
    row: FrameQuality,
    hypotheses: Hypotheses,
    candidates: Sequence[Candidates],
    tracks: Tracks,
    track: int,
) -> FrameQuality:
    """Returns the figures of a track in the frame of a row; NaN for what nobody measured."""
    found = hypothesis_of(hypotheses, tracks, row.frame, track)
    nothing = math.nan
    if found is None:
        best = _best_candidate(candidates[row.frame], tracks.of_candidate[row.frame], track)
        scores = candidates[row.frame]
        return replace(
            row,
            box_score=nothing,
            predicted_iou=nothing if best is None else float(scores.predicted_iou[best]),
            stability=nothing if best is None else float(scores.stability[best]),
            agreement=nothing,
            temporal_iou=nothing,
            negative_margin=nothing,
        )
    at = row.frame, found
    return replace(
        row,
        box_score=float(hypotheses.box_score[at]),
        predicted_iou=float(hypotheses.predicted_iou[at]),
        stability=float(hypotheses.stability[at]),
        agreement=float(hypotheses.agreement[at]),
        temporal_iou=nothing,
        negative_margin=float(hypotheses.negative_margin[at]),
    )
