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
    frames: Sequence[Seen], positives: int = 1, negatives: int = 0, **settings: object
) -> Hypotheses:
    """Each track of a frame is one candidate, in the order of the mapping."""
    augmentation = Augmentation(
        KEY,
        tuple(Positive(f"p{row}", 1.0) for row in range(positives)),
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
    return fuse(augmentation, TEXTS, boxes, candidates, Tracks(tuple(tracks)), config)


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
