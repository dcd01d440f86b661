"""What a person's look at each sample is worth, by the quality of its masks. Letter: S samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from storage.sample_table import SampleTable

LEAST_DOUBT = 1 / 3
"""Doubt about a sample whose positives all take the same object."""


def quality_of(table: SampleTable) -> NDArray[np.float64]:
    """Returns the quality of each sample, float64 [S]: the mean weight of its frames with a mask,
    or of all its frames if none has one."""
    quality: NDArray[np.float64] = np.where(table.present > 0, table.present_weight, table.weight)
    return quality


def expected_gain(table: SampleTable) -> NDArray[np.float64]:
    """Returns what a look at each sample is worth: probability wrong x frames x doubt, float64 [S].

    The probability that the masks are wrong is 1 minus their quality. Doubt is 1 minus two thirds
    of the mean agreement: where sentences disagree about the object, a person can tell which one it
    is; where they agree, a wrong mask is rather a poor one, which choosing another object does not
    improve. `benchmarks/review.py` measures what this order is worth.
    """
    wrong = 1 - np.clip(quality_of(table), 0, 1)
    doubt = 1 - (1 - LEAST_DOUBT) * np.clip(table.agreement, 0, 1)
    gain: NDArray[np.float64] = wrong * table.frames * doubt
    return gain
