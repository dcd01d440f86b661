"""Average precision of queries that have one target and one prediction each, at most.

It is COCO's, over IoU 0.5:0.95, of images with one annotation and one result (``useCats=0``). The
memory for a query is a few numbers, so that every frame of a large data set can be one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

_RECALLS = np.linspace(0.0, 1.0, 101)
_NEARLY_ONE = 1 - 1e-10


class RankedOverlaps:
    """Collects queries, one at a time, for COCO's average precision.

    A query whose target is not in the frame has no truth: a mask in it is a false alarm. A query
    whose mask is empty has no prediction.
    """

    def __init__(self) -> None:
        self._scores: list[float] = []
        self._ious: list[float] = []
        self._targets = 0

    def add(self, score: float, pred: ArrayLike, truth: ArrayLike) -> None:
        """Adds a query.

        Args:
            score: of the mask; the order of all scores counts.
            pred, truth: masks [H, W] of one shape.
        """
        mask, target = np.asarray(pred, dtype=bool), np.asarray(truth, dtype=bool)
        self._targets += bool(target.any())
        if mask.any():
            self._scores.append(score)
            self._ious.append(np.count_nonzero(mask & target) / np.count_nonzero(mask | target))

    def figures(self) -> dict[str, float]:
        """Returns ``mAP 0.5:0.95``, ``AP 0.5`` and ``AP 0.75`` in [0, 1]; none without a target."""
        if not self._targets:
            return {}
        values = average_precisions(self._scores, self._ious, self._targets)
        return {
            "mAP 0.5:0.95": float(values.mean()),
            "AP 0.5": float(values[0]),
            "AP 0.75": float(values[5]),
        }


def average_precisions(
    scores: Sequence[float], ious: Sequence[float], targets: int
) -> NDArray[np.float64]:
    """Returns the average precision at each of :data:`IOU_THRESHOLDS`.

    Args:
        scores: [n], of the predictions. Those with equal scores count in their order.
        ious: [n], of each prediction with its query's target; 0 where it has none.
        targets: number of queries that have a target, 1 or more.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked = np.asarray(ious, dtype=np.float64)[order]
    return np.array([_average(ranked >= min(t, _NEARLY_ONE), targets) for t in IOU_THRESHOLDS])


def _average(right: NDArray[np.bool_], targets: int) -> float:
    """The mean precision at 101 recalls, of predictions from the best score to the worst."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / targets, _RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())
