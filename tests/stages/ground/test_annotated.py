from types import SimpleNamespace

import numpy as np

from pipeline.types import (
    Augmentation,
    Expression,
    FrameIndex,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    VideoRef,
)
from stages.ground.annotated import annotated_boxes
from stages.ground.queries import texts_of

ORIGIN = Provenance("", "", "", 0)


def sentence(row: int, text: str, *objects: str) -> Expression:
    return Expression(SampleKey("d", "train", "v", str(row)), text, object_ids=objects)


def augmentation(expression: Expression, *more: str) -> Augmentation:
    positives = tuple(Positive(text, 1.0) for text in (expression.text, *more))
    return Augmentation(expression.key, positives, (Negative("a cat", "category"),), ORIGIN)


def test_texts_are_each_asked_once_in_order() -> None:
    first, second = sentence(0, "a dog"), sentence(1, "a cat")
    assert texts_of([augmentation(first, "one dog"), augmentation(second)]) == [
        "a dog",
        "one dog",
        "a cat",
    ]


def test_annotated_boxes_answer_every_positive() -> None:
    dog, twin, gone = sentence(0, "a dog"), sentence(1, "the same"), sentence(2, "gone")
    places = {"0": (0, 0, 2, 2), "1": (4, 4, 6, 6)}

    class Reader:
        def expressions(self, video: str) -> list[Expression]:
            return [dog, twin, gone]

        def boxes(self, video: VideoRef, item: Expression, index: FrameIndex) -> object:
            place = places.get(item.key.expression)
            if place is None:
                return None
            return np.array([place] if index == 0 else np.zeros((0, 4)), np.float32)

    video = VideoRef("v", ("0", "1"), ("a", "b"), 8, 8)  # type: ignore[arg-type]
    made = [augmentation(dog, "shared"), augmentation(twin, "shared"), augmentation(gone)]
    texts = texts_of(made)
    first, second = annotated_boxes(Reader(), video, made, texts)  # type: ignore[arg-type]
    found = [(texts[text], rank) for text, rank in zip(first.text, first.rank, strict=True)]
    assert found == [("a dog", 0), ("shared", 0), ("shared", 1), ("the same", 0)]
    assert first.xyxy[1].tolist() == [0, 0, 2, 2]
    assert first.xyxy[2].tolist() == [4, 4, 6, 6]
    assert len(second) == 0


def test_only_the_first_frames_get_boxes_if_asked() -> None:
    dog = sentence(0, "a dog")
    reader = SimpleNamespace(
        expressions=lambda video: [dog],
        boxes=lambda video, item, index: np.array([[index, 0, 2, 2]], np.float32),
    )
    video = VideoRef("v", ("0", "1", "2"), ("a", "b", "c"), 8, 8)  # type: ignore[arg-type]
    made = [augmentation(dog)]
    for frames, expected in ((None, [1, 1, 1]), (1, [1, 0, 0]), (2, [1, 1, 0]), (9, [1, 1, 1])):
        found = annotated_boxes(reader, video, made, texts_of(made), frames)  # type: ignore[arg-type]
        assert [len(boxes) for boxes in found] == expected
