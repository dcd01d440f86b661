"""What a person decided about a sample, done to its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import RankConfig
from pipeline.decisions import Span, Verdict
from pipeline.drawn import Drawn
from pipeline.tracks import order_of_tracks
from pipeline.types import Status, Tracks, VideoRef
from stages.decided import (
    CARRIED,
    CARRIED_ON,
    CHOSEN,
    DRAWN_BY_HAND,
    NOT_CARRIED,
    NOT_LOOKED_AT,
    NOT_THERE,
    REJECTED,
    SAID_ABSENT,
    apply_verdict,
)
from stages.rank import rank
from tests.stages.test_rank import HEIGHT, HERE, THERE, WIDTH, Made, made


def decided(verdict: Verdict, hypotheses: Made, tracks: Tracks) -> tuple[Any, Any, Any]:
    """The sample before, after, and its rows after."""
    names = tuple(f"{index:05}" for index in range(len(hypotheses.status)))
    video = VideoRef("v", names, (Path("frame"),) * len(names), HEIGHT, WIDTH)
    rules = RankConfig()
    before, rows = rank(hypotheses, hypotheses.candidates, video, rules, "digest")
    after, told = apply_verdict(
        verdict, before, rows, hypotheses, hypotheses.candidates, tracks, rules
    )
    return before, after, told


def sample() -> tuple[Made, Tracks]:
    """Four frames with the same two objects, tracks 5 and 2; the second is gone in the last."""
    hypotheses = made([[(HERE, 0.9), (THERE, 0.4)]] * 3 + [[(HERE, 0.9)]])
    tracks = Tracks((*[np.array([5, 2], np.int32)] * 3, np.array([5, -1], np.int32)))
    return hypotheses, tracks


def test_a_rejected_sample_is_unknown_and_has_no_weight() -> None:
    _, after, rows = decided(Verdict("reject"), *sample())
    assert not after.weight.any() and not after.status.any()
    assert all(after.mask.packed(t) is None for t in range(4))
    assert {row.reason for row in rows} == {REJECTED}
    assert {(row.weight, row.status) for row in rows} == {(0.0, 0)}


def test_an_accepted_sample_weighs_one_and_keeps_its_masks() -> None:
    before, after, rows = decided(Verdict("accept"), *sample())
    assert before.weight.max() < 1 and after.weight.tolist() == [1, 1, 1, 1]
    assert np.array_equal(before.mask[1], after.mask[1])
    assert [row.weight for row in rows] == [1, 1, 1, 1]


def test_a_chosen_track_counts_from_its_frame_on() -> None:
    hypotheses, tracks = sample()
    before, after, rows = decided(Verdict(spans=(Span(1, None, 2),)), hypotheses, tracks)
    assert np.array_equal(before.mask[0], after.mask[0])
    other, _, _ = decided(Verdict(), made([[(THERE, 0.9)]] * 4), tracks)
    assert np.array_equal(after.mask[1], other.mask[1])
    assert after.status.tolist() == [1, 1, 1, Status.ABSENT]
    assert after.weight[1:].tolist() == [1, 1, NOT_LOOKED_AT]
    assert [row.reason for row in rows] == ["", CHOSEN, CHOSEN, NOT_THERE]
    assert rows[1].box_score == np.float32(0.4)


def test_a_track_without_a_hypothesis_is_taken_from_its_candidates() -> None:
    hypotheses, tracks = sample()
    hypotheses = Made(**{**vars(hypotheses), "count": np.ones(4, np.int32)})
    _, after, rows = decided(Verdict(spans=(Span(0, 0, 2),)), hypotheses, tracks)
    other, _, _ = decided(Verdict(), made([[(THERE, 0.9)]] * 4), tracks)
    assert np.array_equal(after.mask[0], other.mask[0])
    assert np.isnan(rows[0].box_score) and rows[0].predicted_iou == 1


def test_frames_can_be_called_absent() -> None:
    _, after, rows = decided(Verdict("accept", (Span(2, 2, None),)), *sample())
    assert after.status.tolist() == [1, 1, Status.ABSENT, 1]
    assert after.mask.packed(2) is None
    assert (rows[2].reason, rows[2].weight) == (SAID_ABSENT, 1)


def test_a_chosen_track_whose_mask_is_empty_is_unknown() -> None:
    hypotheses = made([[(HERE, 0.9), (None, 0.4)]])
    tracks = Tracks((np.array([0, 1], np.int32),))
    _, after, _ = decided(Verdict(spans=(Span(0, None, 1),)), hypotheses, tracks)
    assert after.status.tolist() == [Status.UNKNOWN]


def the_second(hypotheses: Made, tracks: Tracks) -> Any:
    """The mask of the second object in the first frame."""
    _, after, _ = decided(Verdict(spans=(Span(0, 0, 2),)), hypotheses, tracks)
    return after.mask[0]


def test_a_drawn_mask_is_that_frames_mask_and_its_track_carries_it() -> None:
    hypotheses, tracks = sample()
    mask = the_second(hypotheses, tracks)
    mask[0, 0] = True
    verdict = Verdict(spans=(Span(0, None, None, drawn=(Drawn.of(1, mask),)),))
    _, after, rows = decided(verdict, hypotheses, tracks)
    assert np.array_equal(after.mask[1], mask)
    assert np.array_equal(after.mask[2], the_second(hypotheses, tracks))
    assert [row.reason for row in rows] == [CARRIED, DRAWN_BY_HAND, CARRIED, NOT_CARRIED]
    assert after.weight.tolist() == [0.5, 1, 0.5, 0.5]
    assert after.status.tolist() == [1, 1, 1, Status.ABSENT]
    assert np.isnan(rows[1].predicted_iou) and rows[2].box_score == np.float32(0.4)


def test_frames_that_show_a_drawn_object_already_stay_as_they_are() -> None:
    hypotheses, tracks = sample()
    before, _, _ = decided(Verdict(), hypotheses, tracks)
    mask = before.mask[0]
    mask[0, 0] = True
    verdict = Verdict(spans=(Span(0, None, None, drawn=(Drawn.of(0, mask),)),))
    _, after, rows = decided(verdict, hypotheses, tracks)
    assert after.weight[1:].tolist() == before.weight[1:].tolist()
    assert [row.reason for row in rows] == [DRAWN_BY_HAND, "", "", ""]
    # What no candidate overlaps is not carried, and an empty mask says that nothing is there.
    for drawn in (np.zeros_like(mask), np.eye(*mask.shape, dtype=np.bool_)):
        verdict = Verdict(spans=(Span(0, None, None, drawn=(Drawn.of(2, drawn),)),))
        _, after, rows = decided(verdict, hypotheses, tracks)
        assert [row.reason for row in rows[:2]] == ["", ""]
        assert after.status[2] == (Status.PRESENT if drawn.any() else Status.ABSENT)


def test_masks_that_a_tracker_made_of_a_drawn_one_come_before_tracks() -> None:
    hypotheses, tracks = sample()
    one, two = np.zeros((2, HEIGHT, WIDTH), np.bool_)
    one[:3, :3] = two[3:6, 3:6] = True
    drawn = (Drawn.of(1, one), Drawn.of(2, two), Drawn.of(3, np.zeros_like(one)))
    verdict = Verdict(spans=(Span(0, None, None, drawn=drawn),))
    before, after, rows = decided(verdict, hypotheses, tracks)
    assert np.array_equal(after.mask[2], two) and np.array_equal(after.mask[0], before.mask[0])
    assert [row.reason for row in rows] == ["", DRAWN_BY_HAND, CARRIED, NOT_CARRIED]


def test_a_chosen_track_that_breaks_off_is_carried_on() -> None:
    hypotheses, _ = sample()
    # The second object becomes track 8 in frame 2; the first is seen beside it.
    of = ([5, 2], [5, 2], [5, 8], [5, -1])
    tracks = Tracks(tuple(np.array(frame, np.int32) for frame in of))
    _, after, rows = decided(Verdict(spans=(Span(0, None, 2),)), hypotheses, tracks)
    assert [row.reason for row in rows] == [CHOSEN, CHOSEN, CARRIED_ON, NOT_THERE]
    assert np.array_equal(after.mask[2], the_second(hypotheses, tracks))
    assert after.weight.tolist() == [1, 1, NOT_LOOKED_AT, NOT_LOOKED_AT]


def test_tracks_come_by_what_the_sentences_say_then_by_length() -> None:
    hypotheses, tracks = sample()
    more = Tracks(tuple(np.append(of, [7, 7]).astype(np.int32) for of in tracks.of_candidate))
    assert order_of_tracks(hypotheses, more) == [5, 2, 7]
    assert order_of_tracks(hypotheses, Tracks((np.array([-1, -1]),) * 4)) == []
