"""The DAVIS evaluations: objects of a sequence scored by their ids, or matched to proposals.

Semi-supervised (Pont-Tuset et al. 2017): ids are given by the first frame, so object 3 is scored
against prediction 3. Unsupervised (Caelles et al. 2019): each object is matched with at most one
proposal so that mean (J + F)/2 is greatest. Matching hides swapped identities, so both are here.
Letters: T frames, H W pixels, N true objects, M predicted ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import masks_to_boxes
from pipeline.metrics import Statistics, contour_accuracy, region_similarity, statistics

VOID = 255
"""The value of pixels that count for nothing."""

MAX_PROPOSALS = 20
"""Of an unsupervised prediction; the official code refuses more."""

Ids = NDArray[np.uint8]
"""Index masks [T, H, W]: 0 background, 255 void, else an object's id."""

Task = Literal["semi-supervised", "unsupervised"]
TASKS: tuple[Task, ...] = ("semi-supervised", "unsupervised")

ANNOTATION_SETS = 4
"""Of Ref-DAVIS17: two annotators, who saw the first frame or the full video. The id of an
expression is 4·rank + set, rank being the place of its object."""


@dataclass(frozen=True)
class ObjectScore:
    """One true object of a sequence.

    Attributes:
        object_id: its value in the truth.
        matched: the value in the prediction that it was scored against; 0 for none.
        j, f: [T], each in [0, 1].
    """

    object_id: int
    matched: int
    j: NDArray[np.float64]
    f: NDArray[np.float64]

    @property
    def j_statistics(self) -> Statistics:
        return statistics(self.j)

    @property
    def f_statistics(self) -> Statistics:
        return statistics(self.f)


def object_count(truth: Ids) -> int:
    """Objects of a sequence: the highest id of its first frame, as the official code counts."""
    first = truth[0]
    return int(np.where(first == VOID, 0, first).max(initial=0))


def evaluated_frames(frames: int, task: Task) -> slice:
    """The frames that count: all but the first and the last, or all."""
    return slice(1, frames - 1) if task == "semi-supervised" else slice(0, frames)


def scores_by_id(
    truth: Ids, pred: Ids, objects: int, void: NDArray[np.bool_] | None = None
) -> list[ObjectScore]:
    """Scores object i against prediction i, for i in 1..objects.

    Args:
        truth, pred: index masks of one sequence.
        objects: N; see :func:`object_count`. Predicted ids above it are not looked at.
        void: [T, H, W], pixels that count for nothing; None for none.

    Raises:
        ValueError: the shapes differ.
    """
    return [
        ObjectScore(number, number, *_pair(truth, number, pred, number, void))
        for number in range(1, objects + 1)
    ]


def scores_by_matching(
    truth: Ids, pred: Ids, objects: int, void: NDArray[np.bool_] | None = None
) -> list[ObjectScore]:
    """Scores every object against the proposal that the best assignment gives it.

    Of M proposals those with ids up to :data:`MAX_PROPOSALS` count. Where M < N, the rest of the
    objects are scored against nothing. The result is in the order of the objects' ids.

    Raises:
        ValueError: the shapes differ.
    """
    proposals = min(MAX_PROPOSALS, int(pred.max(initial=0)))
    rows = max(objects, proposals)
    if objects == 0:
        return []
    j = np.zeros((rows, objects, len(truth)))
    f = np.zeros_like(j)
    for row in range(rows):
        for column in range(objects):
            j[row, column], f[row, column] = _pair(truth, column + 1, pred, row + 1, void)
    quality = (j.mean(axis=2) + f.mean(axis=2)) / 2
    # Import it here, because it takes a second and every command imports this module.
    from scipy.optimize import linear_sum_assignment

    taken, columns = linear_sum_assignment(-quality)
    found = {int(column): int(row) for row, column in zip(taken, columns, strict=True)}
    return [
        ObjectScore(
            column + 1,
            found[column] + 1 if found[column] < proposals else 0,
            j[found[column], column],
            f[found[column], column],
        )
        for column in range(objects)
    ]


def rows_of_set(expressions: Sequence[str], number: int) -> list[int | None]:
    """Returns, for each object of a video by rank, the row of its expression in an annotation set
    of Ref-DAVIS17; None if the set has none of it.

    Args:
        expressions: ids of a video's expressions, numbers.
        number: of the annotation set.
    """
    rows = {int(name): row for row, name in enumerate(expressions)}
    ranks = range(1 + max((name // ANNOTATION_SETS for name in rows), default=-1))
    return [rows.get(ANNOTATION_SETS * rank + number) for rank in ranks]


def labels_of_scores(scores: NDArray[np.float64]) -> Ids:
    """The index masks of Ref-DAVIS17 from the scores of N expressions [N, T, H, W] in [0, 1].

    Scores below 0.5 count as 0, background has 0.1, and a pixel goes to the highest: id rank + 1,
    the first on a tie.
    """
    kept = np.where(scores < 0.5, 0.0, scores)
    background = np.full((1, *scores.shape[1:]), 0.1)
    labels: Ids = np.concatenate([background, kept]).argmax(axis=0).astype(np.uint8)
    return labels


def _pair(
    truth: Ids, object_id: int, pred: Ids, proposal: int, void: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """J [T] and F [T] of one object and one proposal."""
    if truth.shape != pred.shape:
        raise ValueError(f"prediction {pred.shape}, truth {truth.shape}; expected the same")
    j, f = np.zeros(len(truth)), np.zeros(len(truth))
    for frame in range(len(truth)):
        # A void value is no object, whichever id is asked for.
        target = (truth[frame] == object_id) & (truth[frame] != VOID)
        mask = pred[frame] == proposal
        outside = None if void is None else void[frame]
        if (outside is None or not outside.any()) and _far_apart(mask, target):
            continue
        j[frame] = region_similarity(mask, target, outside)
        f[frame] = contour_accuracy(mask, target, outside)
    return j, f


def _far_apart(mask: NDArray[np.bool_], target: NDArray[np.bool_]) -> bool:
    """Whether J and F must be 0: no mask is empty, and their boxes are beyond the tolerance.

    Neither fills the frame then, so both have a boundary. Not to be asked where there is void,
    which can empty both.
    """
    boxes = masks_to_boxes(np.stack([mask, target]))
    if not (boxes[:, 2] > boxes[:, 0]).all():
        return False
    reach = math.ceil(0.008 * math.hypot(*mask.shape)) + 2
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = boxes.tolist()
    return bool(ax0 - bx1 > reach or bx0 - ax1 > reach or ay0 - by1 > reach or by0 - ay1 > reach)
