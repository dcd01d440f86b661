import pytest

from pipeline.sampling import pick_frames


@pytest.mark.parametrize(
    ("frames", "count", "picked"),
    [(10, 4, [0, 3, 6, 9]), (3, 4, [0, 1, 2]), (1, 4, [0]), (0, 4, []), (9, 1, [0])],
)
def test_frames_are_evenly_spread(frames: int, count: int, picked: list[int]) -> None:
    assert pick_frames(frames, count) == picked
