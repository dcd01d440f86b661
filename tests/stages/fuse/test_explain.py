"""An explanation says what `fuse` does, and which threshold decides."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.types import Status
from stages.fuse import fuse
from stages.fuse.explain import Explanation, explain_frames, explain_tracks
from stages.fuse.votes import NOTHING_FOUND
from tests.stages.fuse import test_tracks
from tests.stages.fuse.test_tracks import fused


def arguments(frames: Any, **settings: Any) -> tuple[Any, ...]:
    """What `fuse` is called with."""
    with mock.patch.object(test_tracks, "fuse", lambda *given: given):
        return fused(frames, **settings)  # type: ignore[return-value]


def explained(frames: Any, frame: int = 0, **settings: Any) -> Explanation:
    return explain_tracks(*arguments(frames, **settings), frame)


def test_votes_objections_and_tracks_are_told() -> None:
    found = explained([{0: (0.6, 0, 0.1), 1: (0.55, 0, 0.9)}], negatives=1, negative_weight=1.0)
    positive, negative = found.votes
    assert (positive.weight, positive.best, positive.objects) == (1.0, 0, False)
    assert (negative.kind, negative.best, negative.objects) == ("attribute", 1, True)
    assert negative.score == pytest.approx(0.9) and negative.for_chosen == pytest.approx(0.1)
    assert [item.track for item in found.tracks] == [0, 1]
    assert found.tracks[1].score == pytest.approx(0.55 - 0.35)


def test_the_first_test_that_fails_decides_and_says_by_how_much() -> None:
    found = explained([{0: (0.7, 0, 0)}, {0: (0.05, 0, 0)}], 1, present_above=0.1)
    assert found.decisive is not None
    assert found.decisive.setting == "fuse.present_above"
    assert found.decisive.margin == pytest.approx(-0.05)
    assert (found.status, found.decisive.fails_as) == (Status.ABSENT, "absent")


def test_a_present_frame_names_the_test_that_was_closest() -> None:
    found = explained([{0: (0.32, 0, 0)}], present_above=0.1, uncertain_below=0.3)
    assert found.status == Status.PRESENT and found.decisive is not None
    assert (found.decisive.setting, found.decisive.passes) == ("fuse.uncertain_below", True)
    assert found.decisive.margin == pytest.approx(0.02)


def test_a_frame_and_a_video_without_boxes() -> None:
    found = explained([{0: (0.7, 0, 0)}, {}], 1)
    assert (found.track, found.reason, found.decisive) == (-1, NOTHING_FOUND, None)
    nothing = explained([{}], 0)
    assert nothing.tracks == [] and nothing.votes[0].best == -1


seen = st.dictionaries(
    st.integers(0, 3),
    st.tuples(*[st.sampled_from([0.0, 0.05, 0.2, 0.28, 0.5, 0.9])] * 3),
    max_size=3,
)


@given(st.lists(seen, min_size=1, max_size=4))
def test_an_explanation_agrees_with_fuse(frames: Any) -> None:
    given_to_fuse = arguments(frames, positives=2, negatives=1)
    made = fuse(*given_to_fuse)
    for frame in range(len(frames)):
        found = explain_tracks(*given_to_fuse, frame)
        assert (found.status, found.reason) == (made.status[frame], made.reason[frame])
        failing = [item for item in found.tests if not item.passes]
        assert bool(failing) == (found.status != Status.PRESENT and bool(found.tests))


@given(st.lists(seen, min_size=1, max_size=4))
def test_an_explanation_of_single_frames_agrees_with_fuse(frames: Any) -> None:
    given_to_fuse = arguments(frames, positives=2, negatives=1, level="frame")
    made = fuse(*given_to_fuse)
    augmentation, texts, boxes, candidates, _, config = given_to_fuse
    for frame in range(len(frames)):
        found = explain_frames(augmentation, texts, boxes, candidates, config, frame)
        assert (found.status, found.reason) == (made.status[frame], made.reason[frame])
        failing = [item for item in found.tests if not item.passes]
        assert bool(failing) == (found.status != Status.PRESENT and bool(found.tests))
