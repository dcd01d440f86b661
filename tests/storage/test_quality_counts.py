from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.types import FrameQuality, Status
from storage.quality_counts import FrameCount, count_frames
from storage.tables import write_quality


def quality(video: str, frame: int, status: Status, reason: str, score: float) -> FrameQuality:
    figures = (score, 0.5, 0.5, 0.5, math.nan, 0.0, 0.5)
    return FrameQuality(video, "0", frame, f"{frame:05d}", *figures, int(status), reason)


def test_frames_are_counted_by_status_and_reason(tmp_path: Path) -> None:
    rows = [
        quality("a", 0, Status.PRESENT, "", 0.5),
        quality("a", 1, Status.ABSENT, "no box found", 0.1),
        quality("a", 2, Status.ABSENT, "no box found", 0.2),
        quality("b", 0, Status.ABSENT, "no box found", 0.3),
    ]
    path = tmp_path / "quality.parquet"
    write_quality(path, rows)
    assert sorted(count_frames(path), key=str) == [
        FrameCount("a", "0", 1, "", 1, 0.5),
        FrameCount("a", "0", 2, "no box found", 2, 0.2),
        FrameCount("b", "0", 2, "no box found", 1, 0.3),
    ]


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such table"):
        list(count_frames(tmp_path / "quality.parquet"))
