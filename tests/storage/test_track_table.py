"""The table of tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.types import Tracks
from storage.track_table import TrackWriter, read_tracks


def tracks(*frames: list[int]) -> Tracks:
    return Tracks(tuple(np.array(item, np.int32) for item in frames))


@pytest.mark.parametrize(
    "written",
    [
        tracks([0, 1, -1], [], [1]),
        tracks([], []),
        tracks(),
        tracks([2, 2]),
        tracks([], [0], [], []),
    ],
)
def test_tracks_are_read_as_written(tmp_path: Path, written: Tracks) -> None:
    path = tmp_path / "00000.parquet"
    with TrackWriter(path) as writer:
        writer.write_video("other", tracks([5]))
        writer.write_video("v", written)
    found = read_tracks(path, "v")
    assert [item.tolist() for item in found.of_candidate] == [
        item.tolist() for item in written.of_candidate
    ]
    assert len(found) == len(written)
    assert all(item.dtype == np.int32 for item in found.of_candidate)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "00000.parquet"
    with pytest.raises(StoreError, match="no such table; expected the track table"):
        read_tracks(path, "v")
    with TrackWriter(path) as writer:
        writer.write_video("v", tracks([0]))
        with pytest.raises(ValueError, match="written twice"):
            writer.write_video("v", tracks([0]))
    with pytest.raises(StoreError, match="no video w; expected its tracks; run track again"):
        read_tracks(path, "w")


def test_nothing_is_left_where_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), TrackWriter(tmp_path / "t.parquet") as writer:
        writer.write_video("v", tracks([0]))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
