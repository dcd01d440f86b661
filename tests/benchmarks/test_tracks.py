"""Figures of identity, on tracks whose figures can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation import COLUMNS, row_of
from benchmarks.tracks import Sequences, identity


def disc(x: int) -> np.ndarray:
    mask = np.zeros((8, 40), np.bool_)
    mask[2:6, x : x + 4] = True
    return mask


def video(numbers: list[tuple[int, int]]) -> Sequences:
    """Two objects, seen exactly in every frame, under the numbers of tracks that are given."""
    found = Sequences()
    for frame, pair in enumerate(numbers):
        masks = np.stack([disc(frame), disc(30 - frame)])
        found.add([5, 9], masks, list(pair), masks)
    return found


def test_tracks_that_keep_their_objects_are_perfect() -> None:
    assert identity([video([(3, 7)] * 6)]) == pytest.approx(
        {"HOTA": 100, "AssA": 100, "DetA": 100, "IDF1": 100}
    )


def test_tracks_that_change_objects_half_way_lose_identity_and_no_detection() -> None:
    found = identity([video([(3, 7)] * 4 + [(7, 3)] * 4)])
    assert found["DetA"] == pytest.approx(100)
    # Of the 8 frames of an object and of a track each, 4 are common: 4 / (8 + 8 - 4).
    assert found["AssA"] == pytest.approx(100 / 3)
    assert found["IDF1"] == pytest.approx(50)


def test_a_track_of_nothing_lowers_detection_and_not_association() -> None:
    found = video([(3, 7)] * 4)
    for frame, masks in enumerate([disc(36)] * 4):
        found.tracks[frame] = np.append(found.tracks[frame], 11)
        found.overlap[frame] = np.concatenate([found.overlap[frame], np.zeros((2, 1))], axis=1)
        assert masks.any()
    figures = identity([found])
    assert figures["AssA"] == pytest.approx(100)
    assert figures["DetA"] == pytest.approx(100 * 2 / 3)


def test_a_video_without_objects_and_tracks_counts_as_nothing() -> None:
    empty, none = Sequences(), np.zeros((0, 8, 40), np.bool_)
    empty.add([], none, [], none)
    assert identity([video([(3, 7)] * 4), empty])["HOTA"] == pytest.approx(100)


def test_a_row_is_the_mean_over_runs_with_its_spread(tmp_path: Path) -> None:
    def run(value: float) -> dict[str, object]:
        return {"overall": {"J&F": value}, "absent_frames_found": 50.0}

    assert next(iter(COLUMNS)) == "J&F"
    assert row_of([run(80.0)])[0] == "80.0"
    both = row_of([run(80.0), run(90.0)])
    assert both[0] == "85.0 ± 7.1" and both[list(COLUMNS).index("absent found")] == "50.0 ± 0.0"
    assert row_of([None])[0] == "–"
