import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calibration import Calibration


def curve(scores: list[float], probabilities: list[float]) -> Calibration:
    return Calibration(np.array(scores), np.array(probabilities), {})


def test_lines_join_the_knots() -> None:
    made = curve([0, 0.5, 1], [0, 0.8, 1])
    assert made(0.25) == pytest.approx(0.4)
    assert made.score_at(0.4) == pytest.approx(0.25)


def test_a_probability_that_no_score_reaches_needs_the_highest() -> None:
    made = curve([0, 0.5, 1], [0.1, 0.1, 0.6])
    assert (made.score_at(0.05), made.score_at(0.9)) == (0, 1)
    assert made.score_at(0.35) == pytest.approx(0.75)


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=8, unique=True),
    st.lists(st.floats(0, 1), min_size=10, max_size=10),
    st.floats(0.001, 1),
    st.floats(0, 1),
)
def test_a_score_passes_as_its_probability_does(
    inner: list[float], heights: list[float], limit: float, score: float
) -> None:
    scores = [0.0, *sorted(inner), 1.0]
    made = curve(scores, [0.0, *sorted(heights[: len(inner)]), 1.0])
    if abs(made(score) - limit) > 1e-9:
        assert (score >= made.score_at(limit)) == (made(score) >= limit)


@pytest.mark.parametrize(
    ("scores", "probabilities"),
    [
        ([0, 1], [0.5, 0.2]),
        ([0, 0.5, 0.5, 1], [0, 0.1, 0.2, 1]),
        ([0.1, 1], [0, 1]),
        ([0, 1], [0, 1.5]),
        ([0, 1], [0, float("nan")]),
        ([0], [0]),
    ],
)
def test_what_is_no_rising_function_is_refused(
    scores: list[float], probabilities: list[float]
) -> None:
    with pytest.raises(ValueError, match=r"knot|scores|probability"):
        curve(scores, probabilities)
