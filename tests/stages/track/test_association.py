"""Tracks of masks: instances of a frame, links between frames, tracks that broke."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import TrackConfig
from pipeline.types import Boxes, Candidates
from stages.track import associate

HEIGHT, WIDTH, SIDE = 24, 60, 8

Object = tuple[float, float, Sequence[float]]
"""x and y of a square, and the score of each sentence for it."""


def frame(objects: Sequence[Object], sentences: int = 2) -> tuple[Boxes, Candidates]:
    """Every sentence finds every object; each object is one candidate."""
    xyxy = np.array([[x, y, x + SIDE, y + SIDE] for x, y, _ in objects], np.float32).reshape(-1, 4)
    count = len(objects)
    score = np.array([scores for _, _, scores in objects], np.float32).reshape(count, sentences)
    logits = np.full((count, HEIGHT, WIDTH), -4, np.float16)
    for row, (x, y, _) in enumerate(objects):
        logits[row, round(y) : round(y) + SIDE, round(x) : round(x) + SIDE] = 4
    boxes = Boxes(
        np.tile(xyxy, (sentences, 1)),
        score.T.ravel(),
        np.repeat(np.arange(sentences, dtype=np.int32), count),
        np.argsort(np.argsort(-score, axis=0), axis=0).T.ravel().astype(np.int32),
    )
    ones = np.ones(count, np.float32)
    rows = np.tile(np.arange(count, dtype=np.int32), sentences)
    return boxes, Candidates(logits, ones, ones, rows)


def tracks_of(frames: Sequence[Sequence[Object]], **settings: float) -> list[list[int]]:
    made = [frame(objects) for objects in frames]
    config = TrackConfig.model_validate(settings)
    found = associate(2, [boxes for boxes, _ in made], (item for _, item in made), config)
    return [item.tolist() for item in found.of_candidate]


RED, BLUE = (0.8, 0.1), (0.1, 0.8)


def test_an_object_keeps_its_track_whatever_its_place_in_the_list() -> None:
    frames = [
        [(2 + 3 * t, 2, RED), (40 - 3 * t, 14, BLUE)][:: 1 if t % 2 else -1] for t in range(6)
    ]
    found = tracks_of(frames)
    assert found == [[0, 1] if t % 2 == 0 else [1, 0] for t in range(6)]


def test_objects_that_cross_keep_their_tracks() -> None:
    frames = [[(2 + 4 * t, 7, RED), (42 - 4 * t, 10, BLUE)] for t in range(11)]
    assert tracks_of(frames) == [[0, 1]] * 11


def test_look_alikes_that_pass_each_other_are_told_by_their_movement() -> None:
    frames = [[(2 + 4 * t, 4, RED), (42 - 4 * t, 13, RED)] for t in range(11)]
    assert tracks_of(frames) == [[0, 1]] * 11


def test_a_box_that_is_hidden_in_part_does_not_turn_its_movement_round() -> None:
    # Before it is gone, the visible part of the first object stands still, and then moves back.
    steps = [2, 5, 8, 11, 14, 15, 14]
    frames = [[(x, 4, RED), (44 - 3 * t, 12, RED)] for t, x in enumerate(steps)]
    frames += [[(44 - 3 * t, 12, RED)] for t in range(7, 11)]
    frames += [[(14 + 3 * (t - 4), 4, RED), (44 - 3 * t, 12, RED)] for t in range(11, 14)]
    assert tracks_of(frames) == [[0, 1]] * 7 + [[1]] * 4 + [[0, 1]] * 3


def test_look_alikes_that_come_back_are_told_by_the_way_that_they_move() -> None:
    other = (26, 8, BLUE)
    first = [[(2 + 3 * t, 0, RED), (50 - 3 * t, 16, RED), other] for t in range(5)]
    gone = [[other]] * 12
    # They come back on the other's side, and move on as before.
    back = [[(50 - 3 * t, 0, RED), (2 + 3 * t, 16, RED), other] for t in range(5)]
    found = tracks_of([*first, *gone, *back])
    assert found == [[0, 1, 2]] * 5 + [[2]] * 12 + [[1, 0, 2]] * 5
    without = tracks_of([*first, *gone, *back], heading_weight=0.0)
    assert without[-1] == [0, 1, 2], "the movement decides"


def test_an_object_that_comes_back_has_the_track_that_it_had() -> None:
    shown = [[(2, 2, RED), (40, 12, BLUE)]] * 3
    gone = [[(40, 12, BLUE)]] * 12
    back = [[(30, 2, RED), (40, 12, BLUE)]] * 3
    found = tracks_of([*shown, *gone, *back])
    assert found == [[0, 1]] * 3 + [[1]] * 12 + [[0, 1]] * 3


def test_tracks_that_share_a_frame_are_never_joined() -> None:
    found = tracks_of([[(2, 2, RED), (40, 12, RED)]] * 4)
    assert found == [[0, 1]] * 4


def test_masks_of_one_object_are_one_instance() -> None:
    boxes, candidates = frame([(2, 2, RED), (3, 2, BLUE), (40, 12, RED)])
    found = associate(2, [boxes], [candidates], TrackConfig())
    assert found.of_candidate[0].tolist() == [0, 0, 1]
    assert len(found) == 2


def test_what_no_sentence_scores_has_no_track() -> None:
    assert tracks_of([[(2, 2, (0.01, 0.02)), (40, 12, RED)]]) == [[-1, 0]]


def test_frames_and_videos_without_candidates() -> None:
    assert tracks_of([]) == []
    assert tracks_of([[], []]) == [[], []]
    assert tracks_of([[], [(2, 2, RED)], []]) == [[], [0], []]


@given(st.data())
def test_tracks_hold_one_instance_a_frame_and_are_numbered_by_their_first_frame(
    data: st.DataObject,
) -> None:
    places = st.tuples(
        st.integers(0, WIDTH - SIDE), st.integers(0, HEIGHT - SIDE), st.sampled_from([RED, BLUE])
    )
    frames = data.draw(st.lists(st.lists(places, max_size=4), max_size=6))
    found = tracks_of(frames, same_mask_iou=1.0)
    seen: list[int] = []
    for objects, numbers in zip(frames, found, strict=True):
        assert len(numbers) == len(objects)
        corners = {
            place: {n for p, n in zip(objects, numbers, strict=True) if p[:2] == place[:2]}
            for place in objects
        }
        assert all(len(each) == 1 for each in corners.values())
        for number in sorted(set(numbers)):
            if number not in seen:
                seen.append(number)
    assert sorted(seen) == list(range(len(seen)))


def test_equal_inputs_give_equal_tracks() -> None:
    rng = np.random.default_rng(3)

    def scores() -> NDArray[np.float64]:
        return rng.uniform(0.1, 0.9, 2)

    frames = [
        [(rng.uniform(0, 50), rng.uniform(0, 15), scores()) for _ in range(4)] for _ in range(8)
    ]
    assert tracks_of(frames) == tracks_of(frames)
