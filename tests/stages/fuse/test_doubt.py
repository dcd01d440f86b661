"""What the votes are in doubt about, and what follows from a judge's ruling."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.judgements import Ruling
from pipeline.types import Hypotheses, Status
from stages.fuse import fuse
from stages.fuse.doubt import Doubt, doubt_of
from stages.fuse.explain import explain_tracks
from stages.fuse.votes import JUDGED_ABSENT, NOT_SEEN
from stages.rank import leads
from tests.stages.fuse.test_explain import arguments
from tests.stages.fuse.test_tracks import chosen

FRAMES = [{0: (0.5, 0, 0), 1: (0.45, 0, 0), 2: (0.05, 0, 0)}] * 3 + [{0: (0.5, 0, 0)}]


def doubt(frames: Any, most: int = 4, **settings: Any) -> Doubt:
    return doubt_of(*arguments(frames, **settings), most)


def ruled(frames: Any, ruling: Ruling, **settings: Any) -> Hypotheses:
    return fuse(*arguments(frames, **settings), ruling)


def test_the_margin_is_the_lead_of_the_chosen_track() -> None:
    found = doubt(FRAMES)
    assert found.margin == pytest.approx(0.05)
    assert (found.voted, found.tracks) == ((0,), (0, 1, 2))
    assert found.scores == pytest.approx((0.5, 0.45, 0.05))
    assert doubt(FRAMES, most=2).tracks == (0, 1)
    assert doubt([{0: (0.3, 0, 0)}]).margin == pytest.approx(0.3)
    # Of two targets, the lower one has to lead.
    two = doubt([{0: (0.6, 0, 0), 1: (0.5, 0, 0), 2: (0.2, 0, 0)}], said="the two dogs")
    assert two.voted == (0, 1) and two.margin == pytest.approx(0.3)
    # A track with a box of a negative alone is no choice; an absent target has none.
    assert doubt([{0: (0.1, 0, 0), 1: (0, 0, 0.5)}], negatives=1).tracks == (0,)
    assert doubt([{0: (0.1, 0, 0)}]).voted == ()
    assert doubt([{}]) == Doubt(0.0, (), (), ())


def test_a_ruling_turns_the_choice_over_and_its_probability_is_the_lead() -> None:
    assert chosen(ruled(FRAMES, Ruling((0,), (1, 2), 0.9))) == [0, 0, 0, 0]
    found = ruled(FRAMES, Ruling((1,), (0, 2), 0.8))
    assert chosen(found) == [1, 1, 1, None]
    assert found.reason[3] == NOT_SEEN  # the rejected track does not stand in
    lead = leads(found.score[:1], found.count[:1] * 0, found.together[:1])
    assert lead == pytest.approx([0.8])
    assert found.negative_margin[0, 1] == pytest.approx(0.5 - 0.8)


def test_a_ruling_makes_a_sentence_absent_or_present_against_the_votes() -> None:
    found = ruled(FRAMES, Ruling((), (0, 1, 2), 0.7))
    assert chosen(found) == [None] * 4 and set(found.reason) == {JUDGED_ABSENT}
    assert found.negative_margin[0, 0] == pytest.approx(0.5 - 0.7)
    weak = [{0: (0.2, 0, 0), 1: (0.15, 0, 0)}] * 2
    assert chosen(fuse(*arguments(weak))) == [None, None]
    assert chosen(ruled(weak, Ruling((1,), (0,), 0.9))) == [1, 1]


def test_several_tracks_are_chosen_and_one_that_was_not_shown_stands_in() -> None:
    frames = [{0: (0.5, 0, 0), 1: (0.3, 0, 0), 2: (0.45, 0, 0)}] * 3 + [{3: (0.9, 0, 0)}]
    found = ruled(frames, Ruling((0, 1), (2,), 0.9))
    assert found.together.tolist() == [2, 2, 2, 1]
    assert [int(x) // 10 for x in found.box[0, :3, 0]] == [0, 1, 2]
    stood_in = ruled(frames, Ruling((1,), (0, 2), 0.9), stand_in=0.5)
    assert chosen(stood_in) == [1, 1, 1, 3]
    refused = ruled(frames, Ruling((1,), (0, 2, 3), 0.9), stand_in=0.5)
    assert chosen(refused) == [1, 1, 1, None]


@pytest.mark.parametrize(
    "ruling", [Ruling((1,), (0, 2), 0.8), Ruling((), (0, 1, 2), 0.6), Ruling((0, 1), (2,), 0.9)]
)
def test_an_explanation_says_what_fusion_does_with_a_ruling(ruling: Ruling) -> None:
    given = arguments(FRAMES)
    found = fuse(*given, ruling)
    for frame in range(len(FRAMES)):
        told = explain_tracks(*given, frame, ruling)
        assert (int(told.status), told.reason) == (int(found.status[frame]), found.reason[frame])
        assert {item.track for item in told.tracks if item.chosen} == set(ruling.chosen)
        assert all(test.passes for test in told.tests) or told.status != Status.PRESENT
