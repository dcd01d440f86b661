"""The tracks of one frame: their numbers, and the mask of the best candidate of each."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.types import Candidates
from stages.track_masks import tracks_in


@pytest.fixture
def candidates() -> Candidates:
    logits = np.full((4, 4, 8), -4, np.float16)
    for row in range(4):
        logits[row, :, 2 * row : 2 * row + 2] = 4
    fit = np.array([0.5, 0.9, 0.8, 0.7], np.float32)
    return Candidates(logits, fit, np.ones(4, np.float32), np.arange(4, dtype=np.int32))


def test_each_track_has_the_mask_of_its_best_candidate(candidates: Candidates) -> None:
    numbers, masks = tracks_in(candidates, np.array([7, 7, 2, -1], np.int32), (4, 8))
    assert numbers == [2, 7]
    np.testing.assert_array_equal(masks[0], candidates.logits[2] > 0)
    np.testing.assert_array_equal(masks[1], candidates.logits[1] > 0)


def test_only_the_tracks_asked_for(candidates: Candidates) -> None:
    of = np.array([7, 7, 2, -1], np.int32)
    assert tracks_in(candidates, of, (4, 8), {2, 5})[0] == [2]
    numbers, masks = tracks_in(candidates, of, (4, 8), set())
    assert numbers == [] and masks.shape == (0, 4, 8)
