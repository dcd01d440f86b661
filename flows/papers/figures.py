"""The figures of a student on a split with ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.scores import SampleMasks, evaluate, summarise
from flows.training.validation import Predicted
from pipeline.errors import ConfigError
from pipeline.geometry import masks_to_boxes
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, Status, VideoRef

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student

METRICS = ("J&F", "J", "F", "overall IoU", "mean IoU", "box IoU")
"""In percent. IoUs are over annotated frames: overall is the sum of intersections by that of unions
(A2D-Sentences), box is of the boxes around masks, in frames that show the target."""

PARAMETERS = "million parameters"
"""Those that are trained."""

HOURS = "hours of annotation"
"""By the seconds of a mask, a box and a point of ``pipeline.costs``; 0 for pseudo-masks."""


class _Overlaps:
    """Passes a system's masks on, and adds up how they overlap with the ground truth."""

    def __init__(self, masks: SampleMasks, reader: DatasetReader) -> None:
        self._masks, self._reader = masks, reader
        self._shared, self._joined = 0, 0
        self._ious: list[float] = []
        self._boxes: list[float] = []

    def __call__(
        self, video: VideoRef, expression: Expression
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]] | None:
        found = self._masks(video, expression)
        if found is None:
            return None
        for index, (mask, status) in enumerate(zip(*found, strict=True)):
            truth = self._reader.truth(video, expression, FrameIndex(index))
            if truth is not None:
                self._add(mask & (status == Status.PRESENT), truth)
        return found

    def _add(self, mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
        shared, joined = int((mask & truth).sum()), int((mask | truth).sum())
        self._shared, self._joined = self._shared + shared, self._joined + joined
        self._ious.append((shared + 1e-6) / (joined + 1e-6))
        if truth.any():
            self._boxes.append(_box_iou(mask, truth))

    def figures(self) -> dict[str, float]:
        return {
            "overall IoU": 100 * self._shared / max(1, self._joined),
            "mean IoU": 100 * float(np.mean(self._ious)),
            "box IoU": 100 * float(np.mean(self._boxes)) if self._boxes else 0.0,
        }


def check_truth(reader: DatasetReader) -> None:
    """Raises ConfigError if no frame of a split has ground truth. Looks until it finds one."""
    for video_id in reader.video_ids():
        video = reader.video(video_id)
        for expression in reader.expressions(video_id):
            for index in range(len(video)):
                if reader.truth(video, expression, FrameIndex(index)) is not None:
                    return
    raise ConfigError(
        f"the split {reader.split!r} of {reader.name}: no frame has ground truth; expected one"
        " with masks; give --of, such as train_val, which is cut from the training split"
    )


def figures_of(student: Student, reader: DatasetReader, device: torch.device) -> dict[str, float]:
    """Returns ``METRICS`` of a student in percent, and ``PARAMETERS``.

    The split has ground truth (:func:`check_truth`).
    """
    masks = _Overlaps(Predicted(student, reader, device), reader)
    scores = [score for _, each in evaluate(reader, reader.video_ids(), masks) for score in each]
    found = summarise(scores)
    assert found is not None and found["overall"] is not None, "a frame with ground truth"
    values = {name: float(value) for name, value in found["overall"].items()}
    trained = sum(value.numel() for value in student.parameters() if value.requires_grad)
    return values | masks.figures() | {PARAMETERS: trained / 1e6}


def _box_iou(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Returns the IoU of the boxes around two masks; 0 if the first one is empty."""
    if not mask.any():
        return 0.0
    (x0, y0, x1, y1), (u0, v0, u1, v1) = masks_to_boxes(np.stack([mask, truth])).tolist()
    shared = max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
    joined = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared
    return float(shared / joined)
