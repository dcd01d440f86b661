"""What a person decided about a sample, done to its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import RankConfig
from pipeline.decisions import Span, Verdict
from pipeline.tracks import order_of_tracks
from pipeline.types import Status, Tracks, VideoRef
from stages.decided import (
    CHOSEN,
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


def test_tracks_come_by_what_the_sentences_say_then_by_length() -> None:
    hypotheses, tracks = sample()
    more = Tracks(tuple(np.append(of, [7, 7]).astype(np.int32) for of in tracks.of_candidate))
    assert order_of_tracks(hypotheses, more) == [5, 2, 7]
    assert order_of_tracks(hypotheses, Tracks((np.array([-1, -1]),) * 4)) == []
