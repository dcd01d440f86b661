"""What a stage is given of a video: frames to look at, texts to find, other objects' sentences,
boxes that the data set has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import DatasetReader
from pipeline.types import Augmentation, Boxes, Expression, FrameIndex, Positive, VideoRef

SIBLING_CONFIDENCE = 0.9
"""Of a sentence that the data set says is about the same object; the original has 1."""


def pick_frames(frames: int, count: int) -> list[FrameIndex]:
    """At most ``count`` evenly spaced positions in ``frames``, the first and the last among them,
    in order, each once.
    """
    places = np.linspace(0, frames - 1, min(frames, count)).round()
    return [FrameIndex(int(place)) for place in places]


def texts_of(augmentations: Sequence[Augmentation]) -> list[str]:
    """All positives and negatives of a video's expressions, each once, in order."""
    texts: dict[str, None] = {}
    for augmentation in augmentations:
        texts.update((item.text, None) for item in augmentation.positives)
        texts.update((item.text, None) for item in augmentation.negatives)
    return list(texts)


def others_of(expression: Expression, expressions: Sequence[Expression]) -> list[str]:
    """Sentences of the same video that are known to be about other objects; none where the data
    set does not say which object a sentence is about.
    """
    own = set(expression.object_ids)
    if not own:
        return []
    return [item.text for item in expressions if item.object_ids and not own & set(item.object_ids)]


def with_siblings(
    augmentation: Augmentation, expressions: Sequence[Expression], positives: int
) -> Augmentation:
    """Takes other sentences that are known to be about the same object as positives.

    They come right after the original, before what a captioner wrote: people wrote them. Nothing
    changes where the data set does not say which object a sentence is about.

    Args:
        positives: K, the most that are kept, the original among them.
    """
    own = next(e for e in expressions if e.key == augmentation.key)
    siblings = [
        Positive(item.text, SIBLING_CONFIDENCE)
        for item in expressions
        if own.object_ids and item.object_ids == own.object_ids and item.text != own.text
    ]
    texts = {item.text for item in siblings}
    written = [item for item in augmentation.positives[1:] if item.text not in texts]
    kept = (augmentation.positives[0], *siblings, *written)[:positives]
    negatives = tuple(item for item in augmentation.negatives if item.text not in texts)
    return replace(augmentation, positives=kept, negatives=negatives)


def annotated_boxes(
    reader: DatasetReader,
    video: VideoRef,
    augmentations: Sequence[Augmentation],
    texts: Sequence[str],
) -> list[Boxes]:
    """The data set's boxes in place of a grounder's, of every frame of a video.

    Every positive of an expression has the boxes of its target's objects, ranked as they come. A
    text that two expressions share has both targets' boxes, the earlier expression's first.
    """
    row_of = {text: row for row, text in enumerate(texts)}
    positives = {item.key.expression: item.positives for item in augmentations}
    expressions = reader.expressions(video.id)
    result = []
    for index in range(len(video)):
        rows: list[tuple[int, int, NDArray[np.float32]]] = []
        taken: Counter[int] = Counter()
        for expression in expressions:
            boxes = reader.boxes(video, expression, FrameIndex(index))
            for box in () if boxes is None else boxes:
                for positive in positives.get(expression.key.expression, ()):
                    row = row_of[positive.text]
                    rows.append((row, taken[row], box))
                    taken[row] += 1
        rows.sort(key=lambda item: item[:2])
        result.append(
            Boxes(
                np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
                np.ones(len(rows), np.float32),
                np.array([row for row, _, _ in rows], np.int32),
                np.array([rank for _, rank, _ in rows], np.int32),
            )
        )
    return result


def no_boxes(frames: int) -> list[Boxes]:
    """Frames in which nothing was looked for."""
    none = np.zeros(0, np.int32)
    return [Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, none)] * frames
