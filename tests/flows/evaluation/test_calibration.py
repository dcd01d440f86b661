"""Scores become probabilities that hold in other videos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.evaluation.calibration import (
    METHODS,
    LabelledBoxes,
    auroc,
    expected_error,
    fit,
    reliability,
)


def drawn(videos: int, seed: int, sharpness: float = 12.0, boxes: int = 40) -> LabelledBoxes:
    """Boxes whose scores stand for other probabilities: a score of .4 is right half of the time."""
    rng = np.random.default_rng(seed)
    score = rng.random(videos * boxes)
    right = rng.random(score.shape) < 1 / (1 + np.exp(-sharpness * (score - 0.4)))
    return LabelledBoxes([f"v{n // boxes}" for n in range(len(score))], score, right)


@pytest.mark.parametrize("method", list(METHODS))
def test_probabilities_hold_in_videos_without_labels(method: str) -> None:
    labels, others = drawn(20, 0), drawn(50, 1)
    made = np.interp(others.score, *METHODS[method](labels.score, labels.right))
    error = expected_error(reliability(made, others.right))
    assert error < 0.05
    assert error < expected_error(reliability(others.score, others.right)) / 2


def test_the_method_that_is_nearer_in_held_out_videos_is_taken() -> None:
    labels = drawn(10, 0)
    made = fit(labels)
    assert made.brier[made.method] == min(made.brier.values())
    assert np.mean((made.held_out - labels.right) ** 2) == pytest.approx(made.brier[made.method])
    labels = drawn(20, 0, boxes=100)
    chance = np.select([labels.score < 0.3, labels.score < 0.9], [0.05, 0.5], 0.95)
    right = np.random.default_rng(1).random(2000) < chance
    steps = LabelledBoxes(labels.video, labels.score, right)
    assert fit(steps).method == "isotonic"


def test_held_out_means_other_videos() -> None:
    # Within a video, every box has the same label, which only that video's own labels tell.
    rng = np.random.default_rng(0)
    labels = drawn(2, 0)
    right = np.array([name == "v0" for name in labels.video])
    score = np.where(right, 0.3, 0.6) + rng.uniform(0, 1e-3, 80)
    made = fit(LabelledBoxes(labels.video, score, right))
    assert made.held_out[right].max() < 0.1


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60),
    st.sampled_from(list(METHODS)),
)
def test_functions_rise_from_0_to_1(boxes: list[tuple[float, bool]], method: str) -> None:
    score, right = np.array([s for s, _ in boxes]), np.array([r for _, r in boxes])
    scores, probabilities = METHODS[method](score, right)
    assert (scores[0], scores[-1]) == (0, 1)
    assert (np.diff(scores) > 0).all()
    assert (np.diff(probabilities) >= 0).all()
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1


def test_too_few_labels_are_refused() -> None:
    one_video, all_right = drawn(1, 0), drawn(5, 0)
    all_right = LabelledBoxes(all_right.video, all_right.score, np.ones(200, np.bool_))
    for labels in (one_video, all_right):
        assert not labels.are_enough
        with pytest.raises(ValueError, match="labels of"):
            fit(labels)


def test_reliability_counts_each_box_once() -> None:
    bins = reliability(np.array([0.0, 0.05, 0.55, 1.0]), np.array([False, True, True, True]))
    assert [item.count for item in bins] == [2, 1, 1]
    assert [item.found for item in bins] == [0.5, 1, 1]
    assert expected_error(bins) == pytest.approx((2 * 0.475 + 0.45 + 0) / 4)


def test_auroc_counts_pairs_of_right_and_wrong_boxes() -> None:
    right = np.array([True, True, False, False])
    assert auroc(np.array([0.9, 0.8, 0.1, 0.2]), right) == 1
    assert auroc(np.array([0.9, 0.1, 0.1, 0.2]), right) == pytest.approx(0.625)
    assert np.isnan(auroc(np.array([0.9, 0.8]), np.array([True, True])))
