"""Picks frames by time, and scales their size. Letters: T frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 5e-4
"""Seconds; containers keep times in milliseconds."""


def within(times: NDArray[Any], start: float, end: float | None) -> NDArray[np.bool_]:
    """Returns which times [T] lie in a part, bool [T]; None ends it with the video."""
    inside = np.asarray(times) >= start - _ROUNDING
    return np.asarray(inside & (np.asarray(times) < (np.inf if end is None else end - _ROUNDING)))


def picked(
    times: NDArray[np.float64], start: float, end: float | None, rate: float | None
) -> set[int]:
    """Returns the indices of the frames that a player shows at ``rate`` moments a second.

    Args:
        times: seconds [T], ascending.
        start, end: of the part; None ends it with the video.
        rate: None takes every frame.
    """
    inside = np.flatnonzero(within(times, start, end))
    if rate is None or not len(inside):
        return set(inside.tolist())
    mine = times[inside]
    moments = mine[0] + np.arange(int((mine[-1] - mine[0] + _ROUNDING) * rate) + 1) / rate
    shown = np.searchsorted(mine, moments + _ROUNDING, "right") - 1
    return set(inside[shown].tolist())


def scaled(size: tuple[int, ...], longest: float | None) -> tuple[int, int]:
    """Returns (H, W) with no side longer than ``longest``; None leaves it."""
    height, width = size
    factor = 1.0 if longest is None else min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))
