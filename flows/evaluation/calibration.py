"""Fits a grounder's scores to the probability that the box is the target.

Two kinds of rising functions are fitted: isotonic regression, and a logistic function of the
score's log odds (Platt). The one whose probabilities are nearer to the truth in held-out videos is
taken. Letters: n boxes, m knots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.guarantee import FOLDS

Floats = NDArray[np.float64]
Knots = tuple[Floats, Floats]
"""Scores and probabilities, float64 [m] each."""

BINS = 10
LEAST_OF_EACH = 5
"""Right boxes, and wrong ones, below which nothing is fitted."""

_GRID = np.linspace(0, 1, 101)
_EDGE = 1e-3


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """Boxes of which it is known whether they are the target.

    Attributes:
        video: n ids.
        score: float64 [n] in [0, 1].
        right: bool [n].
    """

    video: Sequence[str]
    score: Floats
    right: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def videos(self) -> list[str]:
        return sorted(set(self.video))

    @property
    def are_enough(self) -> bool:
        """Whether there are two videos, and enough right and wrong boxes, to fit anything."""
        rights = int(self.right.sum())
        return len(self.videos) > 1 and LEAST_OF_EACH <= rights <= len(self) - LEAST_OF_EACH


@dataclass(frozen=True)
class Bin:
    """Boxes of similar probability: their number, mean probability, and the share that is right."""

    count: int
    expected: float
    found: float


@dataclass(frozen=True, eq=False)
class Fit:
    """What was fitted.

    Attributes:
        method: ``isotonic`` or ``platt``.
        knots: of all labels.
        held_out: float64 [n], the probability of each box from the labels of other videos.
        brier: method -> mean squared error of such probabilities.
    """

    method: str
    knots: Knots
    held_out: Floats
    brier: dict[str, float]


def fit(labels: LabelledBoxes) -> Fit:
    """Returns the better of both methods. Raises ValueError if there are too few labels."""
    if not labels.are_enough:
        raise ValueError(f"{len(labels)} labels of {len(labels.videos)} videos")
    held_out = {name: _held_out(labels, method) for name, method in METHODS.items()}
    brier = {name: float(np.mean((p - labels.right) ** 2)) for name, p in held_out.items()}
    best = min(brier, key=lambda name: brier[name])
    return Fit(best, METHODS[best](labels.score, labels.right), held_out[best], brier)


def isotonic(score: Floats, right: NDArray[np.bool_]) -> Knots:
    """Returns the rising steps that fit best, joined by straight lines between their middles.

    Steps of their own would give different scores one probability, and lose their order.
    """
    from scipy.optimize import isotonic_regression

    values, place, count = np.unique(score, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=right) / count
    fitted = isotonic_regression(mean, weights=count).x
    steps, step = np.unique(fitted, return_inverse=True)
    middle = np.bincount(step, weights=values * count) / np.bincount(step, weights=count)
    return _to_the_ends(middle, np.clip(steps, 0, 1))


def platt(score: Floats, right: NDArray[np.bool_]) -> Knots:
    """Returns a logistic function of the score's log odds, as knots. It does not fall."""
    from scipy.optimize import minimize

    rights = int(right.sum())
    # Platt's targets: certain ones would make a function of separable scores infinitely steep.
    target = np.where(right, (rights + 1) / (rights + 2), 1 / (len(right) - rights + 2))
    odds = _log_odds(score)

    def loss(values: Floats) -> tuple[float, Floats]:
        z = values[0] * odds + values[1]
        error = 1 / (1 + np.exp(-z)) - target
        cost = np.mean(np.logaddexp(0, z) - target * z)
        return float(cost), np.array([np.mean(error * odds), np.mean(error)])

    found = minimize(loss, [1.0, 0.0], jac=True, bounds=[(0, None), (None, None)]).x
    inner = _GRID[1:-1]
    return _to_the_ends(inner, 1 / (1 + np.exp(-(found[0] * _log_odds(inner) + found[1]))))


METHODS: dict[str, Callable[[Floats, NDArray[np.bool_]], Knots]] = {
    "isotonic": isotonic,
    "platt": platt,
}


def reliability(probability: Floats, right: NDArray[np.bool_]) -> list[Bin]:
    """Returns ``BINS`` equal parts of [0, 1], without those that hold no box."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(int(mine.sum()), float(probability[mine].mean()), float(right[mine].mean()))
        for part in range(BINS)
        if (mine := place == part).any()
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """Returns the expected calibration error: mean |probability - share that is right|."""
    whole = sum(item.count for item in bins)
    return sum(item.count * abs(item.expected - item.found) for item in bins) / whole


def auroc(score: Floats, right: NDArray[np.bool_]) -> float:
    """Returns the probability that a right one scores higher than a wrong one; NaN if there are
    none of either."""
    from scipy.stats import rankdata

    count, wrong = int(right.sum()), int((~right).sum())
    if not count or not wrong:
        return float("nan")
    above = rankdata(score)[right].sum() - count * (count + 1) / 2
    return float(above / (count * wrong))


def _held_out(
    labels: LabelledBoxes, method: Callable[[Floats, NDArray[np.bool_]], Knots]
) -> Floats:
    found = np.zeros(len(labels))
    for out in _folds(labels):
        found[out] = np.interp(labels.score[out], *method(labels.score[~out], labels.right[~out]))
    return found


def _folds(labels: LabelledBoxes) -> Iterator[NDArray[np.bool_]]:
    """Yields which boxes are held out, bool [n]: all boxes of some videos at a time."""
    videos, row = np.unique(np.asarray(labels.video, object), return_inverse=True)
    order = np.random.default_rng(0).permutation(len(videos))
    for part in np.array_split(order, min(FOLDS, len(videos))):
        yield np.isin(row, part)


def _to_the_ends(score: Floats, probability: Floats) -> Knots:
    """Adds the knots (0, 0) and (1, 1), so that every score counts; 0 stands for no box."""
    inner = (score > 0) & (score < 1)
    return (
        np.concatenate([[0.0], score[inner], [1.0]]),
        np.concatenate([[0.0], probability[inner], [1.0]]),
    )


def _log_odds(score: Floats) -> Floats:
    kept = np.clip(score, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(kept / (1 - kept)))
