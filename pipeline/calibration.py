"""A calibration: what probability that a box is the target a grounder's score stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising function from scores to probabilities, with straight lines between its knots.

    Attributes:
        scores: float64 [m], ascending, from 0 to 1.
        probabilities: float64 [m] in [0, 1], not falling.
        scores_of: settings and weights of the grounder whose scores these are. Scores of another
            grounder mean something else.
    """

    scores: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    scores_of: Mapping[str, Any]

    def __post_init__(self) -> None:
        shape = self.scores.shape
        if len(shape) != 1 or shape[0] < 2 or shape != self.probabilities.shape:
            raise ValueError(f"{shape} scores, {self.probabilities.shape} probabilities")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.probabilities).all()):
            raise ValueError("a knot is no number")
        rises = (np.diff(self.scores) > 0).all() and (np.diff(self.probabilities) >= 0).all()
        if not rises or self.scores[0] != 0 or self.scores[-1] != 1:
            raise ValueError(
                "the scores of the knots must rise from 0 to 1, probabilities not fall"
            )
        if self.probabilities[0] < 0 or self.probabilities[-1] > 1:
            raise ValueError("a probability is not in [0, 1]")

    def __call__(self, score: float) -> float:
        """Returns the probability that a score stands for."""
        return float(np.interp(score, self.scores, self.probabilities))

    def of_each(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Returns the probability that each of some scores stands for."""
        found: NDArray[np.float64] = np.interp(scores, self.scores, self.probabilities)
        return found

    def score_at(self, probability: float) -> float:
        """Returns the lowest score that stands for at least a probability; 1 if none does."""
        at = int(np.searchsorted(self.probabilities, probability, "left"))
        if at == 0:
            return 0.0
        if at == len(self.scores):
            return 1.0
        low, high = self.probabilities[at - 1], self.probabilities[at]
        share = (probability - low) / (high - low)
        return float(self.scores[at - 1] + share * (self.scores[at] - self.scores[at - 1]))
