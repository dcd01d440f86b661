from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.geometry import (
    box_area,
    box_iou,
    mask_iou,
    masks_to_boxes,
    mean_of_neighbours,
    pairwise_mask_iou,
)
from tests.pipeline.boxes import box_to_mask

HEIGHT, WIDTH = 9, 13
NAN = float("nan")
masks = hnp.arrays(bool, (3, HEIGHT, WIDTH))


@st.composite
def pixel_boxes(draw: st.DrawFn) -> list[int]:
    x = sorted(draw(st.tuples(st.integers(0, WIDTH), st.integers(0, WIDTH))))
    y = sorted(draw(st.tuples(st.integers(0, HEIGHT), st.integers(0, HEIGHT))))
    return [x[0], y[0], x[1], y[1]]


@given(st.lists(pixel_boxes(), max_size=4), st.lists(pixel_boxes(), max_size=4))
def test_box_iou_is_that_of_the_pixels(a: list[list[int]], b: list[list[int]]) -> None:
    got = box_iou(a, b)
    assert got.shape == (len(a), len(b))
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            p, q = box_to_mask(first, HEIGHT, WIDTH), box_to_mask(second, HEIGHT, WIDTH)
            union = np.count_nonzero(p | q)
            expected = np.count_nonzero(p & q) / union if union else 0.0
            assert got[i, j] == pytest.approx(expected)


@given(pixel_boxes())
def test_a_box_of_a_mask_of_a_box_is_the_box(box: list[int]) -> None:
    mask = box_to_mask(box, HEIGHT, WIDTH)
    assert box_area(box) == np.count_nonzero(mask)
    expected = box if mask.any() else [0, 0, 0, 0]
    assert masks_to_boxes(mask).tolist() == expected


@given(masks)
def test_masks_to_boxes_is_tight(batch: np.ndarray) -> None:
    for mask, box in zip(batch, masks_to_boxes(batch), strict=True):
        x0, y0, x1, y1 = box.astype(int)
        assert not mask.any() or mask[y0:y1, x0:x1].sum() == mask.sum()
        if mask.any():
            edges = mask[y0, :], mask[y1 - 1, :], mask[:, x0], mask[:, x1 - 1]
            assert all(edge.any() for edge in edges)


def test_empty_input_gives_empty_output() -> None:
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert box_iou([[0, 0, 1, 1]], []).shape == (1, 0)
    assert masks_to_boxes(np.zeros((0, 4, 5), bool)).shape == (0, 4)
    assert masks_to_boxes(np.zeros((2, 0, 5), bool)).tolist() == [[0] * 4] * 2
    assert pairwise_mask_iou(np.zeros((0, 4, 5), bool), np.ones((2, 4, 5), bool)).shape == (0, 2)


def test_a_box_with_swapped_corners_holds_nothing() -> None:
    assert box_area([5, 5, 2, 9]) == 0
    assert box_iou([[5, 5, 2, 2]], [[0, 0, 9, 9]]) == 0


@given(masks, masks)
def test_pairwise_mask_iou_is_mask_iou_of_every_pair(a: np.ndarray, b: np.ndarray) -> None:
    got = pairwise_mask_iou(a, b)
    for i in range(3):
        for j in range(3):
            assert got[i, j] == pytest.approx(float(mask_iou(a[i], b[j])))


def test_mask_iou_of_two_empty_masks_is_one() -> None:
    empty = np.zeros((1, 4, 4), bool)
    assert mask_iou(empty, empty).tolist() == [1.0]
    assert pairwise_mask_iou(empty, empty).tolist() == [[1.0]]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        pairwise_mask_iou(np.zeros(shape), np.zeros(shape))


def test_boxes_of_other_width_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        box_iou([[0, 0, 1]], [[0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("steps", "means"),
    [
        ([], [NAN]),
        ([0.5], [0.5, 0.5]),
        ([0.5, 1.0], [0.5, 0.75, 1.0]),
        ([NAN, 1.0, NAN, NAN], [NAN, 1.0, 1.0, NAN, NAN]),
    ],
)
def test_mean_of_neighbours_leaves_out_steps_that_do_not_count(
    steps: list[float], means: list[float]
) -> None:
    np.testing.assert_allclose(mean_of_neighbours(np.array(steps, np.float64)), means)
