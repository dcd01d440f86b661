"""Both sides of the comparison read the same frames."""

from __future__ import annotations

from pathlib import Path

from benchmarks.video_access import measure, write_both
from storage.datasets import open_dataset


def test_files_and_jpegs_hold_the_same_frames(tmp_path: Path) -> None:
    write_both(tmp_path, videos=1, frames=8, size=(64, 64), keys=4)
    for name in ("files", "jpegs"):
        assert len(open_dataset("videos", tmp_path / name, "train").video("v0")) == 8
    rows = measure(tmp_path, passes=1, clips=2, length=3)
    assert [row.name for row in rows] == ["clips of 3 frames at random", "all frames in order"]
    assert all(row.ratio == row.files / row.jpegs for row in rows)
