"""The field's metrics, exactly as its official evaluations compute them.

J and F are those of the DAVIS benchmark (Perazzi et al. 2016; Pont-Tuset et al. 2017); precision@K,
overall and mean IoU those of A2D-Sentences (Gavrilyuk et al. 2018). COCO's average precision is in
:mod:`pipeline.coco`.

Letters: T frames, H W pixels. A mask is bool, or anything that is truthy inside the object.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""The K of precision@K."""

_A2D_EPSILON = np.float32(1e-6)
"""In float32, as in the code the field compares with: an IoU of one half stays at 0.5."""


def region_similarity(
    pred: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None
) -> NDArray[np.float64]:
    """J, the intersection over union of predicted and true pixels outside void.

    Args:
        pred: predicted masks [..., H, W]: one mask or a clip [T, H, W].
        truth: true masks, same shape.
        void: pixels that count for nothing, same shape; None for none.

    Returns:
        [...] in [0, 1], a scalar for one mask; 1 where both are empty.

    Raises:
        ValueError: the shapes differ.
    """
    pred_nhw, truth_nhw, void_nhw, leading = _as_clips(pred, truth, void)
    values = np.ones(len(pred_nhw), dtype=np.float64)
    for index, (mask, target) in enumerate(zip(pred_nhw, truth_nhw, strict=True)):
        union_mask, shared_mask = mask | target, mask & target
        if void_nhw is not None:
            counted = ~void_nhw[index]
            union_mask, shared_mask = union_mask & counted, shared_mask & counted
        union = np.count_nonzero(union_mask)
        if union:
            values[index] = np.count_nonzero(shared_mask) / union
    return _with_leading(values, leading)


def contour_accuracy(
    pred: ArrayLike, truth: ArrayLike, void: ArrayLike | None = None, bound_th: float = 0.008
) -> NDArray[np.float64]:
    """F, the F-measure of boundary pixels matched within a tolerance.

    The tolerance is r = ceil(bound_th · sqrt(H² + W²)) pixels, or ``bound_th`` itself where it is 1
    or more; a boundary pixel is matched where the other boundary has a pixel within Euclidean
    distance r. Void pixels are emptied in both masks before their boundaries are drawn.

    Args:
        pred: predicted masks [..., H, W]: one mask or a clip [T, H, W].
        truth: true masks, same shape.
        void: pixels that count for nothing, same shape; None for none.
        bound_th: tolerance as a share of the diagonal, or in pixels from 1 on.

    Returns:
        [...] in [0, 1], a scalar for one mask; 1 where neither has a boundary, 0 where one has
        none. A full mask has no boundary, so full against empty gives F = 1 beside J = 0, as in
        the official code.

    Raises:
        ValueError: the shapes differ.
    """
    pred_nhw, truth_nhw, void_nhw, leading = _as_clips(pred, truth, void)
    height, width = pred_nhw.shape[1:]
    radius = int(bound_th if bound_th >= 1 else math.ceil(bound_th * math.hypot(height, width)))
    values = np.empty(len(pred_nhw), dtype=np.float64)
    for index, (mask, target) in enumerate(zip(pred_nhw, truth_nhw, strict=True)):
        if void_nhw is not None:
            mask, target = mask & ~void_nhw[index], target & ~void_nhw[index]
        values[index] = _boundary_f(mask, target, radius)
    return _with_leading(values, leading)


def mask_boundary(mask: Mask) -> Mask:
    """The boundary of a mask [H, W] -> [H, W]: pixels unlike the one right, below or diagonal.

    The last row is compared to the right only, the last column downwards only; the last corner is
    never boundary. Empty and full masks have none.
    """
    boundary = np.zeros_like(mask)
    boundary[:-1, :-1] = (
        (mask[:-1, :-1] ^ mask[:-1, 1:])
        | (mask[:-1, :-1] ^ mask[1:, :-1])
        | (mask[:-1, :-1] ^ mask[1:, 1:])
    )
    boundary[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    boundary[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return boundary


@dataclass(frozen=True)
class Statistics:
    """What the DAVIS benchmark reports about per-frame values.

    Attributes:
        mean: over the values that are not NaN; NaN if there are none.
        recall: share of the values above 0.5.
        decay: mean of the first quarter less mean of the last; positive where quality falls.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: ArrayLike) -> Statistics:
    """Mean, recall and decay of the values [T] of one object, one a frame.

    Bin edges are round(linspace(1, T, 5) + 1e-10) - 1 and the bins share their ends. The official
    code casts the edges to uint8 and breaks from 256 frames on; this does not.

    Raises:
        ValueError: there are no values, or they are not a row.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"values {array.shape}; expected [T] with T of 1 or more")
    edges = np.round(np.linspace(1, array.size, 5) + 1e-10).astype(np.int64) - 1
    first, last = array[edges[0] : edges[1] + 1], array[edges[3] : edges[4] + 1]
    return Statistics(
        mean=_mean_of_numbers(array),
        recall=float(np.mean(array > 0.5)),
        decay=_mean_of_numbers(first) - _mean_of_numbers(last),
    )


@dataclass(frozen=True)
class OverlapFigures:
    """The figures of A2D-Sentences and JHMDB-Sentences, each in [0, 1].

    Attributes:
        precision: K -> share of the samples whose IoU is strictly above K.
        overall_iou: summed intersections over summed unions; large objects weigh more.
        mean_iou: mean of the samples' IoU.
        samples: how many there were.
    """

    precision: dict[float, float]
    overall_iou: float
    mean_iou: float
    samples: int

    @property
    def by_name(self) -> dict[str, float]:
        """The figures by the names that tables show."""
        named = {f"P@{k}": share for k, share in self.precision.items()}
        return named | {"overall IoU": self.overall_iou, "mean IoU": self.mean_iou}


class Overlaps:
    """Adds up precision@K, overall IoU and mean IoU of pairs, one at a time.

    IoU = (I + 1e-6) / (U + 1e-6), so empty against empty is 1.
    """

    def __init__(self) -> None:
        self._ious: list[float] = []
        self._intersections = self._unions = 0

    def add(self, pred: ArrayLike | None, truth: ArrayLike) -> None:
        """Adds a pair of masks [H, W]. A prediction of None is missing: an empty mask.

        Raises:
            ValueError: their shapes differ.
        """
        target = np.asarray(truth, dtype=bool)
        mask = np.zeros_like(target) if pred is None else np.asarray(pred, dtype=bool)
        if mask.shape != target.shape:
            raise ValueError(f"prediction {mask.shape}, truth {target.shape}; expected the same")
        shared, union = np.count_nonzero(mask & target), np.count_nonzero(mask | target)
        self._intersections += int(shared)
        self._unions += int(union)
        iou = (np.float32(shared) + _A2D_EPSILON) / (np.float32(union) + _A2D_EPSILON)
        self._ious.append(float(iou))

    def figures(self, thresholds: Sequence[float] = PRECISION_THRESHOLDS) -> OverlapFigures:
        """Returns the figures.

        Raises:
            ValueError: there are no pairs.
        """
        if not self._ious:
            raise ValueError("no samples; expected one pair or more")
        values = np.array(self._ious)
        return OverlapFigures(
            precision={k: float(np.mean(values > np.float32(k))) for k in thresholds},
            overall_iou=self._intersections / self._unions if self._unions else 1.0,
            mean_iou=float(values.mean()),
            samples=len(values),
        )


def overlap_figures(
    pairs: Iterable[tuple[ArrayLike | None, ArrayLike]],
    thresholds: Sequence[float] = PRECISION_THRESHOLDS,
) -> OverlapFigures:
    """Returns precision@K, overall IoU and mean IoU over (top-scored prediction, truth) pairs.

    Pairs are taken one at a time, so they may come from a generator; see :class:`Overlaps`.

    Raises:
        ValueError: the shapes of a pair differ, or there are no pairs.
    """
    overlaps = Overlaps()
    for pred, truth in pairs:
        overlaps.add(pred, truth)
    return overlaps.figures(thresholds)


def _as_clips(
    pred: ArrayLike, truth: ArrayLike, void: ArrayLike | None
) -> tuple[Mask, Mask, Mask | None, tuple[int, ...]]:
    """Bool arrays [n, H, W] and the leading shape that n stands for."""
    pred_mask, truth_mask = np.asarray(pred, dtype=bool), np.asarray(truth, dtype=bool)
    void_mask = None if void is None else np.asarray(void, dtype=bool)
    shape = pred_mask.shape
    if len(shape) < 2 or truth_mask.shape != shape:
        raise ValueError(f"pred {shape}, truth {truth_mask.shape}; expected the same [..., H, W]")
    if void_mask is not None and void_mask.shape != shape:
        raise ValueError(f"void {void_mask.shape}; expected {shape}, as the masks")
    flat = (math.prod(shape[:-2]), *shape[-2:])
    return (
        pred_mask.reshape(flat),
        truth_mask.reshape(flat),
        None if void_mask is None else void_mask.reshape(flat),
        shape[:-2],
    )


def _with_leading(values: NDArray[np.float64], leading: tuple[int, ...]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values.reshape(leading)[()]
    return result


def _boundary_f(mask: Mask, target: Mask, radius: int) -> float:
    """F of one frame, computed on the part of the frame that contains both masks."""
    crop = _crop_around(mask, target)
    if crop is None:
        return 1.0
    pred_edge, truth_edge = mask_boundary(mask[crop]), mask_boundary(target[crop])
    pred_count, truth_count = np.count_nonzero(pred_edge), np.count_nonzero(truth_edge)
    if not (pred_count and truth_count):
        return 1.0 if pred_count == truth_count else 0.0
    disk = _disk(radius)
    precision = np.count_nonzero(pred_edge & _dilated(truth_edge, disk)) / pred_count
    recall = np.count_nonzero(truth_edge & _dilated(pred_edge, disk)) / truth_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _crop_around(mask: Mask, target: Mask) -> tuple[slice, slice] | None:
    """The window of both masks and one pixel more on each side; None where both are empty.

    The extra pixel holds the boundary that lies outside a mask (above and to the left) and keeps
    the frame's rules for its last row and column away from masks that do not reach them.
    """
    x, y, width, height = cv2.boundingRect((mask | target).view(np.uint8))
    if width == 0:
        return None
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def _dilated(edge: Mask, disk: NDArray[np.uint8]) -> Mask:
    # Dilation reaches out of the window only where no boundary of the other mask can be.
    grown: Mask = cv2.dilate(edge.view(np.uint8), disk).view(np.bool_)
    return grown


@lru_cache(maxsize=16)
def _disk(radius: int) -> NDArray[np.uint8]:
    """The offsets with x² + y² <= r², [2r + 1, 2r + 1]; cv2's own ellipse is another shape."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.uint8)


def _mean_of_numbers(values: NDArray[np.float64]) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if numbers.size else math.nan
