"""Boxes are found in every form that models write, mapped back exactly, and none is invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ground.box_answers import Coordinates, read_boxes

SEEN, SIZE = (280, 560), (140, 280)
"""The model sees twice the frame's pixels."""

HERE = [5, 10, 105, 70]


def read(answer: str, coordinates: Coordinates = "pixels") -> list[list[float]]:
    return [item.xyxy.tolist() for item in read_boxes(answer, coordinates, SEEN, SIZE)]


@pytest.mark.parametrize(
    "answer",
    [
        '[{"bbox_2d": [10, 20, 210, 140], "label": "dog 3"}]',
        '```json\n[\n\t{"bbox_2d": [10, 20, 210, 140]}\n]\n```',
        'The object is here: {"bbox": [10.0, 20.0, 210.0, 140.0],}',
        '[{"bbox_2d": [10, 20, 210, 140]}, {"bbox_2d": [30, 40,',
        "<|box_start|>(10,20),(210,140)<|box_end|>",
        "[[10, 20], [210, 140]]",
        '{"x1": 10, "y1": 20, "x2": 210, "y2": 140}',
        '"bbox_2d": "10, 20, 210, 140"',
        "I think of [1, 2, 3, 4].\n</think>\n[10,20,210,140]",
        "[10, 20, 210, 140] and again [10, 20, 210, 140]",
    ],
)
def test_a_box_is_read_in_every_form(answer: str) -> None:
    assert read(answer) == [HERE]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "There is none.",
        "[10, 20, 210]",
        "[10, 20, 210, 140, 9]",
        "[210, 20, 10, 140]",
        "[10, 20, 10, 140]",
        "[10, 20, 900, 140]",
        "[-50, 20, 210, 140]",
        "the 2 dogs, 3 cats, 4 mice, 5 birds",
        "[10, 20, 210, 140]</think>[]",
    ],
)
def test_what_is_no_box_within_the_image_is_left_out(answer: str) -> None:
    assert read(answer) == []


def test_several_boxes_keep_their_order_and_a_corner_just_outside_moves_to_the_edge() -> None:
    found = read("[[10, 20, 210, 140], [0, 0, 565, 284]]")
    assert found == [HERE, [0, 0, 280, 140]]


def test_thousandths_and_shares_do_not_depend_on_the_size_seen() -> None:
    assert read("[0, 500, 250, 1000]", "thousandths") == [[0, 70, 70, 140]]
    for coordinates in ("pixels", "thousandths"):
        assert read("[0.0, 0.5, 0.25, 1.0]", coordinates) == [[0, 70, 70, 140]]  # type: ignore[arg-type]


def test_confidences_belong_to_the_box_before_them() -> None:
    answer = (
        '[{"bbox_2d": [10, 20, 210, 140], "confidence": 0.8}, {"bbox_2d": [0, 0, 20, 20]},'
        ' {"bbox_2d": [0, 0, 30, 30], "score": "95%"}, {"bbox_2d": [0, 0, 40, 40], "score": "x"}]'
    )
    found = read_boxes(answer, "pixels", SEEN, SIZE)
    assert [item.stated for item in found] == [0.8, None, 0.95, None]
    assert answer[slice(*found[0].span)] == "10, 20, 210, 140"


sides = st.integers(29, 700)


@given(sides, sides, sides, sides, st.data())
def test_boxes_on_odd_sizes_are_mapped_back(
    height: int, width: int, rows: int, columns: int, data: st.DataObject
) -> None:
    x0 = data.draw(st.integers(0, width - 2))
    y0 = data.draw(st.integers(0, height - 2))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    true = np.array([x0, y0, x1, y1])
    scale = np.array([columns / width, rows / height] * 2)
    pixels = ", ".join(f"{value:.4f}" for value in true * scale + 1e-9)
    # Numbers of at most 1 are shares; a box that small in pixels is not written so.
    if (true * scale).max() > 1:
        [found] = read_boxes(f"[{pixels}]", "pixels", (rows, columns), (height, width))
        np.testing.assert_allclose(found.xyxy, true, atol=0.01)
    parts = ", ".join(f"{value:.4f}" for value in true / np.array([width, height] * 2) * 1000)
    [found] = read_boxes(f"[{parts}]", "thousandths", (rows, columns), (height, width))
    np.testing.assert_allclose(found.xyxy, true, atol=0.01)


@given(st.text(alphabet="[](){}<>,.:\"' 0123456789-xyabbox_2d\n%", max_size=200))
def test_no_answer_makes_it_fail(answer: str) -> None:
    for item in read_boxes(answer, "pixels", SEEN, SIZE):
        x0, y0, x1, y1 = item.xyxy
        assert 0 <= x0 < x1 <= SIZE[1] and 0 <= y0 < y1 <= SIZE[0]
