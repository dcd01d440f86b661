from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.davis import (
    VOID,
    evaluated_frames,
    labels_of_scores,
    object_count,
    rows_of_set,
    scores_by_id,
    scores_by_matching,
)
from pipeline.metrics import contour_accuracy, region_similarity


def clip(rng: np.random.Generator, objects: int, frames: int = 3) -> np.ndarray:
    """Random rectangles, one an object, some missing."""
    ids = np.zeros((frames, 40, 60), np.uint8)
    for frame, number in itertools.product(range(frames), range(1, objects + 1)):
        y, x = rng.integers(0, 34), rng.integers(0, 54)
        if rng.random() > 0.2:
            ids[frame, y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = number
    return ids


@given(st.integers(0, 10_000))
def test_scores_are_those_of_the_plain_metrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = clip(rng, 3), clip(rng, 3)
    void = None if seed % 2 else rng.random(truth.shape) < 0.3
    for score in scores_by_id(truth, pred, 3, void):
        number = score.object_id
        pair = (pred == number, truth == number, void)
        assert np.array_equal(score.j, region_similarity(*pair))
        assert np.array_equal(score.f, contour_accuracy(*pair))


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 4))
def test_matching_is_the_best_of_all_assignments(seed: int, objects: int, proposals: int) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = clip(rng, objects), clip(rng, max(proposals, 1))
    pred[pred > proposals] = 0
    found = scores_by_matching(truth, pred, objects)
    rows = max(objects, int(pred.max()))

    def quality(proposal: int, number: int) -> float:
        pair = (pred == proposal, truth == number)
        return float((region_similarity(*pair).mean() + contour_accuracy(*pair).mean()) / 2)

    best = max(
        sum(quality(proposal + 1, number + 1) for number, proposal in enumerate(chosen))
        for chosen in itertools.permutations(range(rows), objects)
    )
    got = sum((score.j.mean() + score.f.mean()) / 2 for score in found)
    assert got == pytest.approx(best, abs=1e-12)
    assert [score.object_id for score in found] == list(range(1, objects + 1))


def test_swapped_identities_are_hidden_by_matching_alone() -> None:
    truth = clip(np.random.default_rng(3), 2)
    swapped = np.where(truth == 0, 0, 3 - truth).astype(np.uint8)
    assert all((score.j == 1).all() for score in scores_by_matching(truth, swapped, 2))
    assert [score.matched for score in scores_by_matching(truth, swapped, 2)] == [2, 1]
    assert min(score.j.min() for score in scores_by_id(truth, swapped, 2)) == 0


def test_objects_are_those_of_the_first_frame_and_void_is_none() -> None:
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, 0] = VOID
    truth[0, 1] = 2
    truth[1, 2] = 5
    assert object_count(truth) == 2
    assert object_count(np.zeros((1, 4, 4), np.uint8)) == 0
    assert scores_by_matching(truth, truth, 0) == []


def test_semi_supervised_leaves_out_the_first_and_the_last_frame() -> None:
    assert list(range(5))[evaluated_frames(5, "semi-supervised")] == [1, 2, 3]
    assert list(range(5))[evaluated_frames(5, "unsupervised")] == [0, 1, 2, 3, 4]


def test_labels_go_to_the_highest_score_from_one_half_on() -> None:
    scores = np.array([[0.49, 0.5, 0.6, 0.9], [0.0, 0.4, 0.6, 0.95]])[:, None, None, :]
    assert labels_of_scores(scores)[0, 0].tolist() == [0, 1, 1, 2]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        scores_by_id(np.zeros((1, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8), 1)


def test_rows_of_an_annotation_set_keep_the_rank_of_their_object() -> None:
    # The second object has no expression in set 1, the third none but that.
    names = ["0", "1", "4", "9"]
    assert rows_of_set(names, 0) == [0, 2, None]
    assert rows_of_set(names, 1) == [1, None, 3]
    assert rows_of_set(names, 3) == [None, None, None]
    assert rows_of_set([], 0) == []
