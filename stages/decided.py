"""The part of stage ``rank`` that does what people decided about a sample.

Letters: T frames, H W pixels, P hypotheses of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config import RankConfig
from pipeline.decisions import ABSENT, DRAWN, KEPT, Span, Verdict
from pipeline.geometry import mask_iou
from pipeline.packed_masks import PackedMasks
from pipeline.types import Candidates, FrameQuality, Hypotheses, PseudoMask, Status, Tracks
from stages.rank import EMPTY_MASK
from stages.track_masks import TrackMasks

REJECTED = "rejected by a person"
SAID_ABSENT = "absent, says a person"
CHOSEN = "chosen by a person"
DRAWN_BY_HAND = "drawn by a person"
CARRIED = "carried from a mask that a person drew"
CARRIED_ON = "the track that a person chose, carried on"
NOT_THERE = "the track that a person chose is not seen"
NOT_CARRIED = "the object that a person drew is not seen"

SURE = 1.0
"""Weight of a frame that a person vouches for."""

NOT_LOOKED_AT = 0.5
"""Weight of a frame that follows from what a person said of others: nobody looked at it alone."""

SAME_OBJECT = 0.7
"""A mask of the run stays where what is carried to it overlaps it with this IoU."""


@dataclass(frozen=True)
class _Made:
    """What becomes of a frame.

    Attributes:
        mask: [H, W]; None for no mask.
        track: whose figures the frame gets; -1 for none.
    """

    mask: NDArray[np.bool_] | None
    status: Status
    weight: float
    reason: str
    track: int = -1


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
    the weight 1, a drawn frame what was drawn. Frames to which either is carried have less weight.
    An accepted sample has the weight 1 in every frame that is not unknown.

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
    found = TrackMasks(hypotheses, candidates, tracks, (height, width), config)
    carried = verdict.carried(frames)
    for index, said in enumerate(verdict.frames(frames).tolist()):
        if verdict.judged == "reject":
            status[index], weight[index], reason[index] = Status.UNKNOWN, 0, REJECTED
            continue
        own = mask.mask[index]
        made = _made(verdict, said, index, carried[index], own, found)
        if made is None:
            masks[index] = own
            continue
        status[index], weight[index], reason[index] = made.status, made.weight, made.reason
        if made.mask is not None:
            masks[index] = made.mask
        if made.mask is not None or made.track >= 0:
            figures[index] = found.measured(rows[index], made.track)
    if verdict.judged == "accept":
        weight[status != Status.UNKNOWN] = SURE
    told = [
        replace(row, weight=float(weight[t]), status=int(status[t]), reason=reason[t])
        for t, row in enumerate(figures)
    ]
    return replace(mask, mask=masks, weight=weight, status=status), told


def _made(
    verdict: Verdict,
    said: int,
    frame: int,
    carried: Span | None,
    own: NDArray[np.bool_],
    found: TrackMasks,
) -> _Made | None:
    """Returns what becomes of a frame; None if it stays as the run made it."""
    if said == ABSENT:
        return _Made(None, Status.ABSENT, SURE, SAID_ABSENT)
    if said == DRAWN:
        drawn = verdict.drawn(frame)
        assert drawn is not None, "a drawn frame has a mask"
        return _of_mask(drawn.mask, SURE, DRAWN_BY_HAND, SAID_ABSENT)
    if said != KEPT:
        mask, goes_on = found.mask(frame, said)
        if mask is None:
            return _Made(None, Status.ABSENT, NOT_LOOKED_AT, NOT_THERE, said)
        if not mask.any():
            return _Made(None, Status.UNKNOWN, 0.0, EMPTY_MASK, said)
        sure, reason = (NOT_LOOKED_AT, CARRIED_ON) if goes_on else (SURE, CHOSEN)
        return _Made(mask, Status.PRESENT, sure, reason, said)
    made = None if carried is None else _carried(carried, frame, found)
    if made is None or (made.mask is not None and own.any() and _same(made.mask, own)):
        return None
    return made


def _carried(span: Span, frame: int, found: TrackMasks) -> _Made | None:
    """Returns what a drawn mask makes of another frame; None if nothing carries it there.

    Masks that a tracker made of it come first. Without any, the track of the candidate that fits it
    best carries it.
    """
    if len(span.drawn) > 1:
        mine = next((item.mask for item in span.drawn[1:] if item.frame == frame), None)
        return None if mine is None else _of_mask(mine, NOT_LOOKED_AT, CARRIED, NOT_CARRIED)
    track = found.track_under(span.drawn[0])
    if track is None:
        return None
    mask, _ = found.mask(frame, track)
    if mask is None:
        return _Made(None, Status.ABSENT, NOT_LOOKED_AT, NOT_CARRIED, track)
    return replace(_of_mask(mask, NOT_LOOKED_AT, CARRIED, NOT_CARRIED), track=track)


def _of_mask(mask: NDArray[np.bool_], weight: float, reason: str, empty: str) -> _Made:
    if mask.any():
        return _Made(mask, Status.PRESENT, weight, reason)
    return _Made(None, Status.ABSENT, weight, empty)


def _same(mask: NDArray[np.bool_], own: NDArray[np.bool_]) -> bool:
    return bool(mask_iou(mask, own) >= SAME_OBJECT)
