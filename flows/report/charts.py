"""Computes the shapes of the report's charts, which the page draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

BINS = 24


@dataclass
class Histogram:
    """Counts of one quality value over [low, high], for frames with a mask and without.

    Attributes:
        name: of the field.
        label: for readers.
        help: what it means.
        kept: frames with a mask, by bin.
        dropped: frames without one.
    """

    name: str
    label: str
    help: str
    low: float = 0.0
    high: float = 1.0
    kept: list[int] = field(default_factory=lambda: [0] * BINS)
    dropped: list[int] = field(default_factory=lambda: [0] * BINS)
    total: float = 0.0
    count: int = 0

    def add(self, value: float, is_kept: bool) -> None:
        """Counts a value. NaN is left out; values outside go to the first or last bin."""
        if math.isnan(value):
            return
        place = (value - self.low) / (self.high - self.low)
        row = min(BINS - 1, max(0, int(place * BINS)))
        (self.kept if is_kept else self.dropped)[row] += 1
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
    """Returns stacked bars: frames with a mask below, others on top, with gaps."""
    most = max((a + b for a, b in zip(chart.kept, chart.dropped, strict=True)), default=0)
    if most == 0:
        return []
    step = width / BINS
    span = (chart.high - chart.low) / BINS
    bars = []
    for row, (kept, dropped) in enumerate(zip(chart.kept, chart.dropped, strict=True)):
        start = chart.low + row * span
        words = f"{start:.2f} to {start + span:.2f}: {kept} with a mask, {dropped} without"
        tall = height * kept / most
        more = height * dropped / most
        if kept:
            bars.append(Bar(row * step + 1, height - tall, step - 2, tall, words, "kept"))
        if dropped:
            gap = 1.5 if kept and more > 3 else 0.0
            top = height - tall - more
            bars.append(Bar(row * step + 1, top, step - 2, more - gap, words, "dropped"))
    return bars


def shares(values: Sequence[float]) -> list[float]:
    """Returns each value as a percentage of the largest; 0 if all are 0."""
    most = max(values, default=0.0)
    return [100 * value / most if most else 0.0 for value in values]
