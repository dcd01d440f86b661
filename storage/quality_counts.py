"""Counts the rows of quality tables by sample, status and reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.tables import open_table

_KEYS = ["video", "expression", "status", "reason"]


@dataclass(frozen=True)
class FrameCount:
    """Frames of one sample that have the same status for the same reason.

    Attributes:
        frames: their number.
        best_score: the highest score that the sentence gave the box of one of them.
    """

    video: str
    expression: str
    status: int
    reason: str
    frames: int
    best_score: float


def count_frames(path: Path) -> Iterator[FrameCount]:
    """Yields the counts of a quality table, in no order. Memory holds the columns of the table.

    Raises:
        StoreError: the table is missing, damaged or newer.
    """
    with open_table(path, "quality") as file:
        table = file.read(columns=[*_KEYS, "box_score"])
        counted = table.group_by(_KEYS).aggregate([("box_score", "count"), ("box_score", "max")])
        for row in counted.to_pylist():
            frames, best = row.pop("box_score_count"), row.pop("box_score_max")
            yield FrameCount(**row, frames=frames, best_score=best)
