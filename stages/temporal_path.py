"""Carries a track on through frames in which it breaks off, along the masks that continue it best.

Letters: T frames, Q candidates of a frame, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import pairwise_mask_iou
from pipeline.types import Candidates, Tracks

CONTINUES = 0.5
"""A mask continues a track if it overlaps with this IoU where the track's mask would have moved."""

Mask = NDArray[np.bool_]


def best_candidate(candidates: Candidates, rows: NDArray[np.intp]) -> int | None:
    """Returns the row, of some, of the candidate that fits an object best; None for none."""
    if not len(rows):
        return None
    fit = candidates.predicted_iou[rows] * candidates.stability[rows]
    return int(rows[fit.argmax()])


def continued(candidates: Sequence[Candidates], tracks: Tracks, track: int) -> NDArray[np.int64]:
    """Returns int64 [T]: the candidate that carries a track on in each frame without it; -1 in
    frames that have the track, and where nothing continues it.

    The last mask is moved by its last motion, frame by frame, first forwards and then backwards. A
    candidate of another track counts only if no frame has both tracks: those are two objects.
    """
    of = tracks.of_candidate
    seen = np.array([bool((frame == track).any()) for frame in of], np.bool_)
    path = np.full(len(of), -1, np.int64)
    others = {int(row) for frame, here in zip(of, seen, strict=True) if here for row in frame}
    others.discard(-1)
    for order in (range(len(of)), range(len(of) - 1, -1, -1)):
        _follow(order, candidates, tracks, track, others, seen, path)
    return path


def _follow(
    order: Iterable[int],
    candidates: Sequence[Candidates],
    tracks: Tracks,
    track: int,
    others: set[int],
    seen: NDArray[np.bool_],
    path: NDArray[np.int64],
) -> None:
    """Fills the frames of a path that lie behind a frame with the track, in an order of frames."""
    before: list[int] = []
    for frame in order:
        if seen[frame] or path[frame] >= 0:
            before = [*before[-1:], frame]
        elif before:
            masks = [_mask(candidates, tracks, track, path, at) for at in before]
            rows = np.flatnonzero(~np.isin(tracks.of_candidate[frame], list(others)))
            found = _continuation(candidates[frame], rows, _moved(masks))
            if found is None:
                before = []
            else:
                path[frame] = found
                before = [*before[-1:], frame]


def _mask(
    candidates: Sequence[Candidates],
    tracks: Tracks,
    track: int,
    path: NDArray[np.int64],
    frame: int,
) -> Mask:
    row = int(path[frame])
    if row < 0:
        mine = np.flatnonzero(tracks.of_candidate[frame] == track)
        row = best_candidate(candidates[frame], mine) or 0
    found: Mask = candidates[frame].logits[row] > 0
    return found


def _moved(masks: Sequence[Mask]) -> Mask:
    """Returns the last of one or two masks [h, w] of successive frames, moved by their motion."""
    if len(masks) < 2 or not (masks[0].any() and masks[1].any()):
        return masks[-1]
    first, second = (np.array([axis.mean() for axis in np.nonzero(mask)]) for mask in masks)
    down, across = np.rint(second - first).astype(int).tolist()
    height, width = masks[1].shape
    found = np.zeros_like(masks[1])
    rows, columns = np.nonzero(masks[1])
    inside = (
        (rows + down >= 0)
        & (rows + down < height)
        & (columns + across >= 0)
        & (columns + across < width)
    )
    found[rows[inside] + down, columns[inside] + across] = True
    return found


def _continuation(candidates: Candidates, rows: NDArray[np.intp], mask: Mask) -> int | None:
    if not len(rows) or not mask.any():
        return None
    overlap = pairwise_mask_iou(candidates.logits[rows] > 0, mask[None])[:, 0]
    best = int(overlap.argmax())
    return int(rows[best]) if overlap[best] >= CONTINUES else None
