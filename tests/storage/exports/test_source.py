from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.types import FrameQuality
from storage.exports import ExportReport
from storage.exports.source import QualityByVideo
from storage.tables import write_quality


def row(video: str, frame: int = 0) -> FrameQuality:
    return FrameQuality(video, "0", frame, "00000", 0, 0, 0, 0, math.nan, 0, 1, 1, "")


def test_quality_comes_video_by_video_and_may_lack_some(tmp_path: Path) -> None:
    write_quality(tmp_path / "q.parquet", [row("a"), row("a", 1), row("c"), row("d")])
    quality = QualityByVideo(tmp_path / "q.parquet")
    assert list(quality.of("a")) == [("0", 0), ("0", 1)]
    assert quality.of("b") == {}
    assert list(quality.of("d")) == [("0", 0)]
    assert quality.of("e") == {}


def test_no_table_has_no_rows(tmp_path: Path) -> None:
    assert QualityByVideo(None).of("a") == {}
    assert QualityByVideo(tmp_path / "none.parquet").of("a") == {}


def test_a_table_out_of_order_is_refused_and_not_read_wrong(tmp_path: Path) -> None:
    write_quality(tmp_path / "q.parquet", [row("b"), row("a")])
    with pytest.raises(StoreError, match="video a after b"):
        QualityByVideo(tmp_path / "q.parquet").of("c")


def test_a_report_adds_up() -> None:
    report = ExportReport()
    report.add("masks")
    report.add("masks", 2)
    assert report.counts == {"masks": 3}
