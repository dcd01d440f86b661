"""Takes boxes from the data set's own annotation in place of a grounder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import DatasetReader
from pipeline.types import Augmentation, Boxes, FrameIndex, VideoRef


def annotated_boxes(
    reader: DatasetReader,
    video: VideoRef,
    augmentations: Sequence[Augmentation],
    texts: Sequence[str],
    frames: int | None = None,
) -> list[Boxes]:
    """Returns the data set's boxes for every frame of a video.

    Every positive of an expression gets the boxes of its target's objects, ranked in the order of
    the data set. A text of two expressions gets both targets' boxes, those of the earlier one
    first.

    Args:
        frames: only the first so many frames get boxes; None for all.
    """
    row_of = {text: row for row, text in enumerate(texts)}
    positives = {item.key.expression: item.positives for item in augmentations}
    expressions = reader.expressions(video.id)
    result = []
    for index in range(len(video)):
        rows: list[tuple[int, int, NDArray[np.float32]]] = []
        taken: Counter[int] = Counter()
        for expression in expressions if frames is None or index < frames else ():
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
