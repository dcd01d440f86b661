"""Tracks that break off, carried on along the masks that continue them."""

from __future__ import annotations

import numpy as np

from pipeline.types import Candidates, Tracks
from stages.temporal_path import continued


def frame(*columns: int) -> Candidates:
    """Squares of 4 x 4 cells at some columns."""
    logits = np.full((len(columns), 8, 32), -4, np.float16)
    for row, column in enumerate(columns):
        logits[row, 2:6, column : column + 4] = 4
    ones = np.ones(len(columns), np.float32)
    return Candidates(logits, ones, ones, np.arange(len(columns), dtype=np.int32))


def path(frames: list[Candidates], of: list[list[int]], track: int) -> list[int]:
    tracks = Tracks(tuple(np.array(item, np.int32) for item in of))
    return continued(frames, tracks, track).tolist()


def test_it_follows_the_motion_of_the_last_frames() -> None:
    # Three cells a frame: without the motion, the masks hardly overlap.
    frames = [frame(1), frame(4), frame(7), frame(0, 10), frame(13)]
    of = [[0], [0], [1], [2, 1], [3]]
    assert path(frames, of, 0) == [-1, -1, 0, 1, 0]
    assert path(frames, of, 3) == [-1, -1, -1, -1, -1]


def test_it_goes_backwards_too_and_closes_gaps() -> None:
    frames = [frame(1)] * 5
    assert path(frames, [[1], [1], [0], [1], [0]], 0) == [0, 0, -1, 0, -1]


def test_an_object_that_was_seen_beside_it_does_not_continue_it() -> None:
    frames = [frame(1, 9), frame(1, 5), frame(1)]
    assert path(frames, [[0, 1], [0, 1], [1]], 0) == [-1, -1, -1]
    # A mask that no sentence scores is of no track, and may.
    assert path(frames, [[0, 1], [0, 1], [-1]], 0) == [-1, -1, 0]


def test_it_ends_where_nothing_overlaps_and_where_there_is_nothing() -> None:
    assert path([frame(1), frame(20), frame(1)], [[0], [1], [1]], 0) == [-1, -1, -1]
    assert path([frame(1), frame(), frame(1)], [[0], [], [1]], 0) == [-1, -1, -1]
    assert path([], [], 0) == []
