"""Collects boxes of a run of which it is known whether they are the target.

What is known comes from the data set, from masks in a folder, or from decisions of people. Only
the best boxes of positives count: these are what `fuse` judges presence by, and a runner-up is more
often wrong than a best box of the same score. Letter: T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.evaluation.calibration import LabelledBoxes
from flows.planning.released import check_there
from pipeline.decisions import ABSENT, KEPT, Verdict
from pipeline.errors import InputError
from pipeline.geometry import box_iou, masks_to_boxes
from pipeline.ports import DatasetReader
from pipeline.types import Augmentation, Boxes, Expression, FrameIndex, Hypotheses, Status, VideoRef
from storage.arrays.hypotheses import StoredHypotheses
from storage.predictions import PredictionTree
from storage.run.ledger import Ledger
from storage.tables import read_augmentations, read_ground

RIGHT_IOU = 0.5
"""A box is the target if it overlaps the target's true box at least so much."""

Known = tuple[NDArray[np.float32], bool]
"""True boxes [n, 4] of the target, none if it is absent; whether every other box is wrong. If not,
the boxes given are wrong, and nothing is known of the others."""

Teller = Callable[[VideoRef, Expression, str], Iterator[Known | None]]
"""Yields what is known of each of the T frames of a sample, given the name of its shard."""


def labelled_boxes(context: RunContext, tell: Teller) -> LabelledBoxes:
    """Returns the best boxes of a run's positives of which something is known, with their scores.

    Videos that cannot be read are left out, as in a run.
    """
    video_of: list[str] = []
    scores: list[NDArray[np.float32]] = []
    rights: list[NDArray[np.bool_]] = []
    for video_id, shard, mine in videos_of(context):
        try:
            found = list(_of_video(context, tell, video_id, shard, mine))
        except InputError:
            continue
        for score, right in found:
            scores.append(score)
            rights.append(right)
            video_of += [video_id] * len(score)
    return LabelledBoxes(
        video_of,
        np.concatenate([np.zeros(0), *scores]).astype(np.float64),
        np.concatenate([np.zeros(0, np.bool_), *rights]),
    )


def videos_of(context: RunContext) -> Iterator[tuple[str, str, Sequence[Augmentation]]]:
    """Yields the id, the shard and the sentences of every video whose boxes a run has found."""
    for receipt in Ledger(context.paths.folder).each("ground"):
        by_video = read_augmentations(context.paths.part("augment", receipt.shard))
        for video_id in receipt.videos:
            yield video_id, receipt.shard, by_video.get(video_id, [])


def best_scores(context: RunContext) -> NDArray[np.float64]:
    """Returns the score of the best box of each original sentence in each frame."""
    found: list[NDArray[np.float32]] = []
    for video_id, shard, mine in videos_of(context):
        texts, boxes = read_ground(context.paths.part("ground", shard), video_id)
        row_of = {text: row for row, text in enumerate(texts)}
        originals = [row_of[item.original] for item in mine if item.original in row_of]
        for frame in boxes:
            found += [frame.score[(frame.text == row) & (frame.rank == 0)] for row in originals]
    return np.concatenate([np.zeros(0), *found]).astype(np.float64)


def told_by_data_set(context: RunContext) -> Teller:
    """Returns what the ground truth of the data set tells: masks, or boxes alone."""
    reader = context.reader()

    def tell(video: VideoRef, expression: Expression, shard: str) -> Iterator[Known | None]:
        for index in range(len(video)):
            boxes = reader.boxes(video, expression, FrameIndex(index))
            yield None if boxes is None else (boxes, True)

    return tell


def told_by_masks(folder: Path, reader: DatasetReader) -> Teller:
    """Returns what the masks of a folder tell: ``<video>/<expression>/<frame>.png``, empty where
    the target is absent. Frames without a file are not labelled.

    Raises:
        InputError: the folder does not exist.
    """
    tree = PredictionTree(folder, reader.video_ids())

    def tell(video: VideoRef, expression: Expression, shard: str) -> Iterator[Known | None]:
        place = (video.id, expression.key.expression)
        names = tree.names(*place)
        for frame in video.frames:
            mask = None
            if f"{frame}.png" in names:
                mask = tree.mask([*place, frame], (video.height, video.width))
            yield None if mask is None else (masks_to_boxes((mask > 0)[None]), True)

    return tell


def told_by_decisions(context: RunContext) -> Teller:
    """Returns what people decided. An accepted mask tells where the target is; a rejected one
    tells where it is not; frames that were called absent have none."""

    def tell(video: VideoRef, expression: Expression, shard: str) -> Iterator[Known | None]:
        verdict = context.verdicts.get((video.id, expression.key.expression))
        if not verdict:
            yield from [None] * len(video)
            return
        check_there(context.paths, [shard], "labels from decisions")
        stored = StoredHypotheses(context.hypotheses(shard), video.id)
        found = next(item for item in stored if item.key == expression.key)
        yield from _decided(verdict, found)

    return tell


def _decided(verdict: Verdict, found: Hypotheses) -> Iterator[Known | None]:
    none = np.zeros((0, 4), np.float32)
    for frame, says in enumerate(verdict.frames(len(found.status))):
        status = found.status[frame]
        if says == ABSENT or (
            says == KEPT and verdict.judged == "accept" and status == Status.ABSENT
        ):
            yield none, True
        elif says == KEPT and verdict.judged and status == Status.PRESENT:
            yield found.box[frame, :1], verdict.judged == "accept"
        else:
            yield None


def _of_video(
    context: RunContext, tell: Teller, video_id: str, shard: str, mine: Sequence[Augmentation]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    reader = context.reader()
    video = reader.video(video_id)
    expressions = {item.key: item for item in reader.expressions(video_id)}
    texts, boxes = read_ground(context.paths.part("ground", shard), video_id)
    row_of = {text: row for row, text in enumerate(texts)}
    for item in mine:
        rows = np.array([row_of[positive.text] for positive in item.positives])
        for frame, known in zip(boxes, tell(video, expressions[item.key], shard), strict=True):
            if known is not None:
                yield _judged(frame, rows, *known)


def _judged(
    frame: Boxes, rows: NDArray[np.int64], true_boxes: NDArray[np.float32], complete: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns the scores of some sentences' best boxes in a frame, and which of them are right."""
    asked = np.isin(frame.text, rows) & (frame.rank == 0)
    overlap = box_iou(frame.xyxy[asked], true_boxes).max(axis=1, initial=0.0)
    near = overlap >= RIGHT_IOU
    if complete:
        return frame.score[asked], near
    return frame.score[asked][near], np.zeros(int(near.sum()), np.bool_)
