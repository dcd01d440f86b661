"""Negatives that cannot tell two objects apart are grounded in a few frames only."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.types import Augmentation, Boxes, Negative, Positive, Provenance, SampleKey
from stages.ground.screening import only_rows, rows_renamed, screening_frames, telling_texts

LEFT, RIGHT, NEAR_LEFT = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (1.0, 0.0, 11.0, 10.0)
TEXTS = ["red", "crimson", "moving red", "blue", "nothing"]


def frame(*found: tuple[int, tuple[float, ...], float, int]) -> Boxes:
    """Boxes of a frame: text, box, score, rank."""
    text, xyxy, score, rank = zip(*found, strict=True)
    return Boxes(
        np.array(xyxy, np.float32),
        np.array(score, np.float32),
        np.array(text, np.int32),
        np.array(rank, np.int32),
    )


def sample(positives: list[str], negatives: list[str]) -> Augmentation:
    return Augmentation(
        SampleKey("shapes", "train", "v", "0"),
        tuple(Positive(text, 1.0) for text in positives),
        tuple(Negative(text, "attribute") for text in negatives),
        Provenance("test", "0", "0", 0),
    )


def test_frames_of_the_screening_are_evenly_spaced() -> None:
    assert screening_frames(range(10), 2) == [2, 7]
    assert screening_frames([0, 3, 6, 9], 3) == [0, 6, 9]
    assert screening_frames(range(3), 3) == [0, 1, 2]
    assert screening_frames(range(3), 0) == [0, 1, 2]


@pytest.mark.parametrize(("where", "kept"), [(NEAR_LEFT, [0, 1, 3]), (RIGHT, [0, 1, 2, 3])])
def test_a_negative_stays_if_it_finds_another_object(
    where: tuple[float, ...], kept: list[int]
) -> None:
    looked = [
        frame((0, LEFT, 0.9, 0), (1, RIGHT, 0.2, 0), (2, LEFT, 0.8, 0), (3, RIGHT, 0.7, 0)),
        frame((0, LEFT, 0.9, 0), (2, where, 0.8, 0), (2, RIGHT, 0.1, 1)),
    ]
    asked = [sample(["red", "crimson"], ["moving red", "blue", "nothing"])]
    assert telling_texts(asked, TEXTS, looked) == kept


def test_a_negative_of_one_expression_may_be_a_positive_of_another() -> None:
    looked = [frame((0, LEFT, 0.9, 0), (2, LEFT, 0.8, 0), (3, RIGHT, 0.7, 0))]
    alone = [sample(["red"], ["moving red"])]
    both = [*alone, sample(["moving red"], ["red"])]
    assert telling_texts(alone, TEXTS, looked) == [0]
    assert telling_texts(both, TEXTS, looked) == [0, 2]


def test_boxes_of_some_sentences() -> None:
    boxes = frame((0, LEFT, 0.9, 0), (1, RIGHT, 0.5, 0), (1, LEFT, 0.2, 1))
    assert rows_renamed(boxes, [2, 4]).text.tolist() == [2, 4, 4]
    kept = only_rows(boxes, [1])
    assert (kept.text.tolist(), kept.rank.tolist()) == ([1, 1], [0, 1])
