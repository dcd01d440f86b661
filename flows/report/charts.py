"""Computes the shapes of the report's charts, which the page draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.types import Status

BINS = 24
SERIES = ("kept", "absent", "dropped")
"""Frames with a mask, absent and unknown ones: classes of the bars, from below."""


@dataclass
class Histogram:
    """Counts of one quality value over [low, high], for frames by their status.

    Attributes:
        name: of the field.
        label: for readers.
        help: what it means.
        kept: frames with a mask, by bin.
        absent: frames from which the target is absent.
        dropped: unknown frames.
    """

    name: str
    label: str
    help: str
    low: float = 0.0
    high: float = 1.0
    kept: list[int] = field(default_factory=lambda: [0] * BINS)
    absent: list[int] = field(default_factory=lambda: [0] * BINS)
    dropped: list[int] = field(default_factory=lambda: [0] * BINS)
    total: float = 0.0
    count: int = 0

    def add(self, value: float, status: int) -> None:
        """Counts a value. NaN is left out; values outside go to the first or last bin."""
        if math.isnan(value):
            return
        place = (value - self.low) / (self.high - self.low)
        row = min(BINS - 1, max(0, int(place * BINS)))
        counts = {Status.PRESENT: self.kept, Status.ABSENT: self.absent}
        counts.get(Status(status), self.dropped)[row] += 1
        self.total += value
        self.count += 1

    @property
    def mean(self) -> float | None:
        """Mean of all values; None without any."""
        return self.total / self.count if self.count else None


@dataclass(frozen=True)
class Bar:
    """One bar: x, y from the top, width, height, and the words for it."""

    x: float
    y: float
    width: float
    height: float
    words: str
    series: str


def histogram_bars(chart: Histogram, width: float, height: float) -> list[Bar]:
    """Returns stacked bars, with gaps: frames with a mask, absent above them, unknown on top."""
    columns = list(zip(chart.kept, chart.absent, chart.dropped, strict=True))
    most = max(map(sum, columns), default=0)
    if most == 0:
        return []
    step = width / BINS
    span = (chart.high - chart.low) / BINS
    bars = []
    for row, counts in enumerate(columns):
        start = chart.low + row * span
        told = f"{counts[0]} with a mask, {counts[1]} absent, {counts[2]} unknown"
        words = f"{start:.2f} to {start + span:.2f}: {told}"
        bottom = height
        for count, series in zip(counts, SERIES, strict=True):
            tall = height * count / most
            gap = 1.5 if bottom < height and tall > 3 else 0.0
            if count:
                top = bottom - tall
                bars.append(Bar(row * step + 1, top, step - 2, tall - gap, words, series))
            bottom -= tall
    return bars


def shares(values: Sequence[float]) -> list[float]:
    """Returns each value as a percentage of the largest; 0 if all are 0."""
    most = max(values, default=0.0)
    return [100 * value / most if most else 0.0 for value in values]
