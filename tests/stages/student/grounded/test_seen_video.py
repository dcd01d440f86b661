"""The choice of a track of a whole video."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import TrackConfig
from stages.student.grounded.network import STAND_IN
from stages.student.grounded.seen_video import SeenFrame, best_stand_in, choose

LEFT, RIGHT = [100, 400, 200, 500], [800, 400, 900, 500]


def frame(logits: list[list[float]], places: list[list[int]], none: float = 0.1) -> SeenFrame:
    """A frame of which the instances look as their places say."""
    looks = np.array([[1.0, 0.0] if place is LEFT else [0.0, 1.0] for place in places])
    return SeenFrame(
        np.array(places, np.float32).reshape(-1, 4),
        looks.reshape(-1, 2).astype(np.float16),
        np.array(logits, np.float32).reshape(1, len(places)),
        np.full(1, none, np.float32),
        0,
    )


def chosen(frames: list[SeenFrame], text: str = "the dog") -> list[list[bool]]:
    found: list[NDArray[np.bool_]] = choose(frames, [text], TrackConfig(), STAND_IN)
    return [mine[0].tolist() for mine in found]


def test_a_frame_that_says_otherwise_is_outvoted() -> None:
    frames = [frame([[2.0, 0.0]], [LEFT, RIGHT]) for _ in range(4)]
    frames.insert(2, frame([[0.0, 1.0]], [LEFT, RIGHT]))
    assert chosen(frames) == [[True, False]] * 5


@pytest.mark.parametrize(("below", "shown"), [(STAND_IN / 2, True), (STAND_IN * 2, False)])
def test_another_object_stands_in_only_if_it_is_nearly_as_good(below: float, shown: bool) -> None:
    frames = [frame([[2.0, 2.0 - below]], [LEFT, RIGHT]) for _ in range(4)]
    frames.append(frame([[2.0 - below]], [RIGHT]))
    assert chosen(frames)[-1] == [shown]


def test_a_sentence_that_most_frames_call_absent_has_no_target() -> None:
    frames = [frame([[2.0, 0.0]], [LEFT, RIGHT], none=0.7) for _ in range(3)]
    assert chosen([*frames, frame([[2.0, 0.0]], [LEFT, RIGHT])]) == [[False, False]] * 4
    # A frame that does not show the target has no say.
    frames = [frame([[-2.0]], [RIGHT], none=0.9) for _ in range(3)]
    found = chosen([frame([[2.0, -2.0]], [LEFT, RIGHT]) for _ in range(2)] + frames)
    assert found == [[True, False]] * 2 + [[False]] * 3


def test_a_sentence_that_names_several_gets_several() -> None:
    frames = [frame([[2.0, 1.5]], [LEFT, RIGHT]) for _ in range(3)]
    assert chosen(frames) == [[True, False]] * 3
    assert chosen(frames, "the two dogs") == [[True, True]] * 3
    unlike = [frame([[2.0, 0.2]], [LEFT, RIGHT]) for _ in range(3)]
    assert chosen(unlike, "the two dogs") == [[True, False]] * 3


def test_frames_and_videos_without_instances() -> None:
    empty = frame([[]], [])
    assert chosen([empty, empty]) == [[], []]
    assert chosen([frame([[1.0]], [LEFT]), empty]) == [[True], []]
    assert chosen([]) == []


def stand_in_of(gaps: list[float], right: str, absent: str, weight: list[float]) -> float:
    shown, gone = (np.array([sign == "1" for sign in signs]) for signs in (right, absent))
    return best_stand_in(np.array(gaps), shown, gone, np.array(weight))


def test_the_stand_in_is_what_parts_absent_frames_from_right_ones() -> None:
    assert stand_in_of([0, 0.2, 1.0, 2.0], "1100", "0011", [1, 1, 1, 1]) == pytest.approx(0.6)
    # A right frame that is lost costs as much as an absent one that is found brings.
    assert stand_in_of([0, 0.2, 1.0, 2.0], "1010", "0101", [1, 1, 1, 1]) == pytest.approx(1.5)
    assert stand_in_of([0, 0.2, 1.0, 2.0], "1010", "0101", [1, 3, 1, 1]) == pytest.approx(0.1)
    assert stand_in_of([0, 0.5, np.inf], "110", "001", [1, 1, 1]) == pytest.approx(1.0)
    # Frames of one gap go together.
    assert stand_in_of([0, 1, 1, 1], "1110", "0001", [1, 1, 1, 1]) == np.inf


def test_without_absent_frames_nothing_is_a_stand_in() -> None:
    assert stand_in_of([0, 1, 5], "111", "000", [1, 1, 1]) == np.inf
    assert stand_in_of([], "", "", []) == np.inf
