"""Sentences that name a movement: the track that moves so counts, whatever one frame suggests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pipeline.config import FuseConfig
from pipeline.movement import Movement
from pipeline.types import (
    Augmentation,
    Boxes,
    CandidateScores,
    Hypotheses,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    Tracks,
)
from stages.fuse import fuse
from stages.fuse.motion import agreement, motion_factors, track_velocities

Path = Callable[[int], tuple[float, float]]
"""Frame -> top left corner of a box of 30 x 40 pixels, whose diagonal is 50."""

RIGHT: Path = lambda t: (10 + 5 * t, 20)  # noqa: E731
LEFT: Path = lambda t: (190 - 5 * t, 80)  # noqa: E731
STILL: Path = lambda t: (120, 100)  # noqa: E731


def video(
    paths: Sequence[Path], scores: Sequence[Sequence[float]], frames: int = 10
) -> tuple[list[Boxes], list[CandidateScores], Tracks]:
    """Each path is a track, and each row of scores, one for each path, a sentence."""
    count, said = len(paths), len(scores)
    boxes, candidates = [], []
    for t in range(frames):
        corner = np.array([path(t) for path in paths], np.float32).reshape(count, 2)
        xyxy = np.concatenate([corner, corner + np.array([30, 40])], axis=1).astype(np.float32)
        boxes.append(
            Boxes(
                np.tile(xyxy, (said, 1)),
                np.array(scores, np.float32).ravel(),
                np.repeat(np.arange(said, dtype=np.int32), count),
                np.argsort(np.argsort(-np.array(scores), axis=1), axis=1).ravel().astype(np.int32),
            )
        )
        ones = np.full(count, 0.9, np.float32)
        candidates.append(
            CandidateScores(ones, ones, np.tile(np.arange(count, dtype=np.int32), said))
        )
    return boxes, candidates, Tracks((np.arange(count, dtype=np.int32),) * frames)


def fused(
    said: str,
    paths: Sequence[Path],
    scores: Sequence[Sequence[float]],
    negative: str = "",
    **settings: float,
) -> Hypotheses:
    augmentation = Augmentation(
        SampleKey("shapes", "train", "v", "0"),
        (Positive(said, 1.0),),
        (Negative(negative, "action"),) if negative else (),
        Provenance("test", "0", "0", 0),
    )
    texts = [said, negative][: len(scores)]
    return fuse(augmentation, texts, *video(paths, scores), FuseConfig.model_validate(settings))


def test_velocities_are_in_diagonals_of_the_box_per_frame() -> None:
    velocity, known = track_velocities(*video([RIGHT, LEFT, STILL], [[0.5] * 3]))
    np.testing.assert_allclose(velocity, [[0.1, 0], [-0.1, 0], [0, 0]], atol=1e-6)
    assert known.all()


def test_a_gap_and_a_jump_do_not_change_the_velocity() -> None:
    jump: Path = lambda t: (10 + 5 * t + (90 if t > 5 else 0), 20)  # noqa: E731
    boxes, candidates, tracks = video([jump], [[0.5]])
    of = list(tracks.of_candidate)
    of[2] = np.array([-1], np.int32)
    velocity, _ = track_velocities(boxes, candidates, Tracks(tuple(of)))
    np.testing.assert_allclose(velocity, [[0.1, 0]], atol=1e-6)


def test_a_track_of_few_frames_has_no_known_movement() -> None:
    assert not track_velocities(*video([RIGHT], [[0.5]], frames=2))[1].any()
    velocity, known = track_velocities([], [], Tracks(()))
    assert velocity.shape == (0, 2) and known.shape == (0,)


def test_agreement_is_one_for_the_best_and_falls_with_the_angle() -> None:
    velocity = np.array([[0.1, 0], [0.0, 0.1], [-0.1, 0], [0.0, 0.0]])
    known = np.array([True, True, True, False])
    found = agreement(Movement.RIGHT, velocity, known)
    assert found[0] == 1 and found[0] > found[1] > found[2] and found[2] < 0.05
    assert found[3] == 0.5
    still = agreement(Movement.STILL, np.array([[0.1, 0], [0, 0.001]]), known[:2])
    assert still[1] == 1 and still[0] < 0.1


def test_a_camera_that_moves_all_tracks_leaves_their_order() -> None:
    pan = np.array([-0.3, 0])
    velocity = np.array([[0.1, 0], [-0.1, 0]])
    found = agreement(Movement.RIGHT, velocity + pan, np.ones(2, np.bool_))
    assert found[0] == 1 and found[1] < 0.05


@pytest.mark.parametrize(
    ("said", "track"),
    [("the car moving to the right", 0), ("the car moving to the left", 1), ("the parked car", 2)],
)
def test_look_alikes_are_told_apart_by_their_movement(said: str, track: int) -> None:
    scores = [[0.6, 0.6, 0.6]]
    scores[0][(track + 1) % 3] = 0.65  # what one frame suggests is wrong
    found = fused(said, [RIGHT, LEFT, STILL], scores)
    where = [RIGHT, LEFT, STILL][track](4)
    assert tuple(found.box[4, 0, :2]) == pytest.approx(where)
    without = fused(said, [RIGHT, LEFT, STILL], scores, motion_weight=0)
    assert tuple(without.box[4, 0, :2]) != pytest.approx(where)


def test_a_clear_difference_in_looks_outweighs_a_movement() -> None:
    found = fused("the car moving to the right", [RIGHT, LEFT], [[0.2, 0.9]])
    assert tuple(found.box[4, 0, :2]) == pytest.approx(LEFT(4))


def test_a_negative_claims_the_track_that_moves_as_it_says() -> None:
    found = fused(
        "a car", [RIGHT, LEFT], [[0.60, 0.58], [0.75, 0.7]], negative="the car moving to the left"
    )
    assert found.score[4, :2] == pytest.approx([0.60, 0.58 - (0.7 - 0.58)], abs=1e-3)


def test_sentences_without_a_movement_are_left_alone() -> None:
    made = video([RIGHT, LEFT], [[0.5, 0.5]])
    assert (motion_factors(["a car", "a red car on the left"], *made, 0.5) == 1).all()
    assert (motion_factors(["a car moving left"], *made, 0.0) == 1).all()
    assert motion_factors(["a car moving left"], [], [], Tracks(()), 0.5).shape == (1, 0)
