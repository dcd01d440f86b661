"""Boxes and masks as sets of pixels.

Boxes are xyxy in pixels, half-open: x0 <= column < x1, y0 <= row < y1. A box with x1 <= x0 or
y1 <= y0 holds nothing. Letters: n m boxes or masks, H W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def box_area(boxes: ArrayLike) -> NDArray[np.float64]:
    """Pixels of each box [..., 4] -> [...]; 0 for a box that holds nothing."""
    array = _as_boxes(boxes)
    sides = np.maximum(array[..., 2:] - array[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1], dtype=np.float64)


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every box of a [n, 4] with every box of b [m, 4] -> [n, m].

    Empty with empty gives 0: boxes that hold nothing agree on nothing. n or m may be 0.
    """
    a_n4, b_m4 = _as_boxes(a).reshape(-1, 4), _as_boxes(b).reshape(-1, 4)
    low = np.maximum(a_n4[:, None, :2], b_m4[None, :, :2])
    high = np.minimum(a_n4[:, None, 2:], b_m4[None, :, 2:])
    sides = np.maximum(high - low, 0)
    # A corner-swapped box has no area, so it may meet nothing either.
    area_n, area_m = box_area(a_n4), box_area(b_m4)
    holds_something = (area_n[:, None] > 0) & (area_m[None, :] > 0)
    shared = np.where(holds_something, sides[..., 0] * sides[..., 1], 0.0)
    union = area_n[:, None] + area_m[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def masks_to_boxes(masks: ArrayLike) -> NDArray[np.float32]:
    """The tightest box of each mask [..., H, W] -> float32 [..., 4]; zeros for an empty mask."""
    array = np.asarray(masks, dtype=bool)
    height, width = array.shape[-2:]
    rows: NDArray[np.bool_] = np.asarray(array.any(axis=-1))
    columns: NDArray[np.bool_] = np.asarray(array.any(axis=-2))
    boxes = np.zeros((*array.shape[:-2], 4), dtype=np.float32)
    if not (height and width):
        return boxes
    boxes[..., 0] = columns.argmax(axis=-1)
    boxes[..., 1] = rows.argmax(axis=-1)
    boxes[..., 2] = width - columns[..., ::-1].argmax(axis=-1)
    boxes[..., 3] = height - rows[..., ::-1].argmax(axis=-1)
    boxes[~rows.any(axis=-1)] = 0
    return boxes


def mask_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of masks pair by pair, [..., H, W] each -> [...].

    1 where both are empty, as in the region similarity J.
    """
    a_mask, b_mask = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    shared = np.asarray(np.count_nonzero(a_mask & b_mask, axis=(-2, -1)), dtype=np.float64)
    union = np.asarray(np.count_nonzero(a_mask | b_mask, axis=(-2, -1)), dtype=np.float64)
    return _share(shared, union)


def pairwise_mask_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every mask of a [n, H, W] with every one of b [m, H, W] -> [n, m].

    1 where both are empty, as in the region similarity J. n or m may be 0. One matrix product:
    the counts are exact in float32 up to 2^24 pixels a mask; larger masks go through float64.
    """
    a_nhw, b_mhw = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a_nhw.ndim != 3 or b_mhw.ndim != 3 or a_nhw.shape[1:] != b_mhw.shape[1:]:
        raise ValueError(f"masks {a_nhw.shape} and {b_mhw.shape}; expected [n,H,W] and [m,H,W]")
    pixels = int(np.prod(a_nhw.shape[1:]))
    exact = np.dtype(np.float32 if pixels < 1 << 24 else np.float64)
    a_np: NDArray[Any] = a_nhw.reshape(len(a_nhw), pixels).astype(exact)
    same = a_nhw is b_mhw
    b_mp: NDArray[Any] = a_np if same else b_mhw.reshape(len(b_mhw), pixels).astype(exact)
    shared: NDArray[np.float64] = (a_np @ b_mp.T).astype(np.float64)
    area_n, area_m = (masks.sum(axis=1).astype(np.float64) for masks in (a_np, b_mp))
    union = area_n[:, None] + area_m[None, :] - shared
    return _share(shared, union)


def mean_of_neighbours(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the steps on either side of each of T frames: [T - 1] -> [T], T at least 1.

    Args:
        steps: a value between each frame and the next; NaN for a step that does not count.

    Returns:
        NaN for a frame without a step that counts.
    """
    sides = np.full((2, len(steps) + 1), np.nan)
    sides[0, 1:], sides[1, :-1] = steps, steps
    counts = np.count_nonzero(~np.isnan(sides), axis=0)
    mean = np.full(len(steps) + 1, np.nan)
    np.divide(np.nansum(sides, axis=0), counts, out=mean, where=counts > 0)
    return mean


def _share(shared: NDArray[np.float64], union: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shared / union, 1 where there is no union."""
    ones: NDArray[np.float64] = np.ones_like(shared)
    np.divide(shared, union, out=ones, where=union > 0)
    return ones


def _as_boxes(boxes: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0 and array.shape[-1:] != (4,):
        array = array.reshape(0, 4)
    if array.shape[-1] != 4:
        raise ValueError(f"boxes {array.shape}; expected [..., 4], xyxy")
    return array
