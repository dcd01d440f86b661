"""Leaves out negatives that say nothing, after a look at a few frames of a video.

A negative counts only where its own box is another one than the positives'. Most negatives of a
captioner name the target itself in other words, or nothing in the video. Letters: K sentences of a
video, S frames that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import box_iou
from pipeline.types import Augmentation, Boxes

SAME_BOX_IOU = 0.5
"""Boxes with at least this IoU are of one object."""


def screening_frames(wanted: Sequence[int], count: int) -> list[int]:
    """Returns ``count`` of the frames that are wanted, evenly spaced; all of them if they are no
    more than that, or if ``count`` is 0."""
    if not 0 < count < len(wanted):
        return list(wanted)
    places = (np.arange(count) + 0.5) * len(wanted) / count
    return [wanted[place] for place in places.astype(np.int64)]


def telling_texts(
    augmentations: Sequence[Augmentation], texts: Sequence[str], looked: Sequence[Boxes]
) -> list[int]:
    """Returns the rows of the sentences that are worth to be grounded in all frames, ascending.

    These are all positives, and each negative whose best box is another object than the positives'
    best box, in at least one frame, for at least one expression.

    Args:
        texts: K sentences of the video.
        looked: boxes of all of them in S frames.
    """
    row_of = {text: row for row, text in enumerate(texts)}
    firsts = [_best(frame, len(texts)) for frame in looked]
    kept = np.zeros(len(texts), np.bool_)
    for item in augmentations:
        positives = np.array([row_of[each.text] for each in item.positives], np.intp)
        negatives = np.array([row_of[each.text] for each in item.negatives], np.intp)
        kept[positives] = True
        for boxes, scores in firsts:
            first = positives[scores[positives].argmax()]
            elsewhere = box_iou(boxes[negatives], boxes[first : first + 1])[:, 0] < SAME_BOX_IOU
            kept[negatives[elsewhere & (scores[negatives] > 0)]] = True
    return np.flatnonzero(kept).tolist()


def rows_renamed(boxes: Boxes, rows: Sequence[int]) -> Boxes:
    """Returns boxes of some sentences as boxes of all of them.

    Args:
        boxes: their ``text`` is a position in ``rows``.
    """
    text = np.asarray(rows, np.int32)[boxes.text]
    return Boxes(boxes.xyxy, boxes.score, text, boxes.rank)


def only_rows(boxes: Boxes, rows: Sequence[int]) -> Boxes:
    """Returns the boxes of some sentences."""
    kept = np.isin(boxes.text, rows)
    return Boxes(boxes.xyxy[kept], boxes.score[kept], boxes.text[kept], boxes.rank[kept])


def _best(frame: Boxes, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the best box [K, 4] and its score [K] of each sentence; zeros without one."""
    boxes, scores = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
    first = frame.rank == 0
    boxes[frame.text[first]], scores[frame.text[first]] = frame.xyxy[first], frame.score[first]
    return boxes, scores
