"""Fusion over tracks: which track is chosen, where it is present, what stands in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from pipeline.config import FuseConfig
from pipeline.types import (
    Augmentation,
    Boxes,
    CandidateScores,
    Hypotheses,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    Status,
    Tracks,
)
from stages.fuse import fuse
from stages.fuse.votes import IN_DOUBT, NOT_SEEN, NOTHING_FOUND, UNCLAIMED

KEY = SampleKey("shapes", "train", "v", "0")
TEXTS = ("p0", "p1", "n0")

Seen = Mapping[int, Sequence[float]]
"""Track -> the score of each of TEXTS for it, in one frame."""


def fused(
    frames: Sequence[Seen],
    positives: int = 1,
    negatives: int = 0,
    said: str = "p0",
    **settings: object,
) -> Hypotheses:
    """Each track of a frame is one candidate, in the order of the mapping."""
    augmentation = Augmentation(
        KEY,
        tuple(Positive(said if row == 0 else f"p{row}", 1.0) for row in range(positives)),
        tuple(Negative(f"n{row}", "attribute") for row in range(negatives)),
        Provenance("test", "0", "0", 0),
    )
    boxes, candidates, tracks = [], [], []
    for seen in frames:
        score = np.array(list(seen.values()), np.float32).reshape(len(seen), len(TEXTS))
        corner = np.array(list(seen), np.float32)[:, None] * 10
        xyxy = np.tile(np.concatenate([corner, corner, corner + 5, corner + 5], 1), (3, 1))
        text = np.repeat(np.arange(3, dtype=np.int32), len(seen))
        rank = np.argsort(np.argsort(-score, axis=0), axis=0).T.ravel().astype(np.int32)
        boxes.append(Boxes(xyxy, score.T.ravel(), text, rank))
        rows = np.tile(np.arange(len(seen), dtype=np.int32), 3)
        ones = np.full(len(seen), 0.9, np.float32)
        candidates.append(CandidateScores(ones, ones, rows))
        tracks.append(np.array(list(seen), np.int32))
    config = FuseConfig.model_validate({"level": "track", **settings})
    return fuse(augmentation, (said, *TEXTS[1:]), boxes, candidates, Tracks(tuple(tracks)), config)


def chosen(found: Hypotheses) -> list[int | None]:
    """The track of the first hypothesis of each frame, by its box; None where not present."""
    return [
        int(found.box[t, 0, 0]) // 10 if found.status[t] == Status.PRESENT else None
        for t in range(len(found.status))
    ]


def test_the_track_with_the_best_mean_wins_also_where_another_looks_better() -> None:
    frames = [{0: (0.7, 0, 0), 1: (0.3, 0, 0)}] * 3 + [{0: (0.5, 0, 0), 1: (0.6, 0, 0)}]
    found = fused(frames)
    assert chosen(found) == [0, 0, 0, 0]
    assert found.score[:, 0] == pytest.approx([0.65] * 4)
    assert found.reason == ("",) * 4


def test_positives_vote_by_their_weight() -> None:
    frames = [{0: (0.6, 0.1, 0), 1: (0.4, 0.5, 0)}]
    assert chosen(fused(frames, positives=1)) == [0]
    assert chosen(fused(frames, positives=2)) == [1]
    assert fused(frames, positives=2).score[0, :2] == pytest.approx([0.45, 0.35])


def test_a_negative_counts_against_the_track_that_it_fits_best() -> None:
    frames = [{0: (0.6, 0, 0.1), 1: (0.55, 0, 0.9)}]
    found = fused(frames, negatives=1, negative_weight=1.0)
    assert found.score[0, :2] == pytest.approx([0.6, 0.55 - (0.9 - 0.55)])
    assert found.negative_margin[0, :2] == pytest.approx([0.6, 0.55 - 0.9])


def test_a_negative_that_fits_the_same_track_best_is_no_evidence() -> None:
    found = fused([{0: (0.6, 0, 0.9), 1: (0.3, 0, 0.2)}], negatives=1, negative_weight=1.0)
    assert chosen(found) == [0]
    assert found.score[0, 0] == pytest.approx(0.6)


def test_the_target_is_absent_where_its_track_is_not() -> None:
    here, gone = {0: (0.7, 0, 0), 1: (0.3, 0, 0)}, {1: (0.3, 0, 0)}
    found = fused([here, gone, {}, here])
    assert chosen(found) == [0, None, None, 0]
    assert found.status.tolist() == [1, 2, 2, 1]
    assert found.reason == ("", NOT_SEEN, NOTHING_FOUND, "")
    assert found.count.tolist() == [2, 1, 0, 2]


def test_the_target_is_absent_where_the_positives_do_not_support_its_track() -> None:
    found = fused([{0: (0.7, 0, 0)}, {0: (0.05, 0, 0)}], present_above=0.1)
    assert chosen(found) == [0, None]
    assert found.reason[1] == NOT_SEEN


def test_a_track_of_enough_score_stands_in() -> None:
    frames = [{0: (0.7, 0, 0)}, {1: (0.4, 0, 0)}]
    assert chosen(fused(frames, stand_in=0.5)) == [0, 1]
    assert chosen(fused(frames, stand_in=0.6)) == [0, None]


def test_a_sentence_that_fits_no_track_is_absent_or_unknown() -> None:
    assert fused([{0: (0.2, 0, 0)}]).status.tolist() == [Status.ABSENT]
    assert fused([{0: (0.2, 0, 0)}]).reason == (UNCLAIMED,)
    found = fused([{0: (0.27, 0, 0)}])
    assert found.status.tolist() == [Status.UNKNOWN]
    assert found.reason == (IN_DOUBT,)


def test_a_frame_counts_for_a_track_although_no_sentence_has_a_box_there() -> None:
    """A track that is seldom found by a sentence fits it less."""
    frames = [{0: (0.9, 0, 0), 1: (0.6, 0, 0)}, {0: (0.0, 0, 0), 1: (0.6, 0, 0)}]
    assert fused(frames).score[0, :2] == pytest.approx([0.6, 0.45])


def test_a_video_without_frames_or_candidates() -> None:
    assert fused([{}, {}]).status.tolist() == [Status.ABSENT] * 2
    assert fused([]).reason == ()


THREE = {0: (0.7, 0, 0), 1: (0.6, 0, 0), 2: (0.5, 0, 0)}


def together(found: Hypotheses) -> list[list[int]]:
    """The tracks that are the target of each present frame, by their boxes."""
    return [
        sorted(int(x) // 10 for x in found.box[t, : found.together[t], 0])
        if found.status[t] == Status.PRESENT
        else []
        for t in range(len(found.status))
    ]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("the dog", [0]),
        ("the two dogs", [0, 1]),
        ("the three dogs", [0, 1, 2]),
        ("the dogs", [0, 1, 2]),
    ],
)
def test_a_sentence_of_several_objects_chooses_as_many_tracks(
    said: str, expected: list[int]
) -> None:
    assert together(fused([THREE] * 3, said=said)) == [expected] * 3
    assert together(fused([THREE] * 3, said=said, several=False)) == [[0]] * 3


def test_a_further_track_needs_a_score_near_the_best_one() -> None:
    frames = [{0: (0.8, 0, 0), 1: (0.7, 0, 0), 2: (0.4, 0, 0)}] * 2
    assert together(fused(frames, said="the dogs")) == [[0, 1]] * 2
    assert together(fused(frames, said="the dogs", alike=0.4)) == [[0, 1, 2]] * 2
    assert together(fused(frames, said="the dogs", alike=0.4, hypotheses=2)) == [[0, 1]] * 2
    weak = [{0: (0.35, 0, 0), 1: (0.3, 0, 0)}] * 2
    assert together(fused(weak, said="the dogs", absent_below=0.33)) == [[0]] * 2


def test_of_several_targets_a_frame_has_those_that_it_shows() -> None:
    frames = [THREE, {1: (0.6, 0, 0), 2: (0.5, 0, 0)}, {0: (0.7, 0, 0), 2: (0.05, 0, 0)}, {}]
    assert together(fused(frames, said="the two dogs")) == [[0, 1], [1], [0], []]


def test_a_negative_takes_its_own_track_out_of_several() -> None:
    frames = [{0: (0.7, 0, 0.1), 1: (0.6, 0, 0.9), 2: (0.6, 0, 0)}] * 2
    assert together(fused(frames, negatives=1, said="the dogs")) == [[0, 2]] * 2
