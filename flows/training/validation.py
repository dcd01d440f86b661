"""Measures J&F of a student during its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.scores import evaluate, summarise
from pipeline.errors import ConfigError
from pipeline.ports import DatasetReader
from pipeline.types import Expression, Status, VideoRef

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student


class Predicted:
    """:class:`flows.evaluation.scores.SampleMasks` of a student, predicted when they are asked for.

    The sentences of a video are predicted together, when the first of them is asked for.
    """

    def __init__(self, student: Student, reader: DatasetReader, device: torch.device) -> None:
        self._student, self._reader, self._device = student, reader, device
        self._video = ""
        self._masks: dict[str, NDArray[np.bool_]] = {}

    def __call__(
        self, video: VideoRef, expression: Expression
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
        from stages.student.predict import predict_video

        if self._video != video.id:
            asked = self._reader.expressions(video.id)
            texts = [item.text for item in asked]
            parts = predict_video(self._student, self._reader, video, texts, self._device)
            masks = np.concatenate([part.masks for part in parts], axis=1)
            names = [item.key.expression for item in asked]
            self._video, self._masks = video.id, dict(zip(names, masks, strict=True))
        mask = self._masks[expression.key.expression]
        seen = mask.any((1, 2))
        return mask, np.where(seen, Status.PRESENT, Status.ABSENT).astype(np.uint8)


class Validation:
    """Measures J&F of a student in percent, on the first videos of a split.

    Args:
        reader: of the split, with ground truth.
        videos: number of videos.
        device: the student's.
    """

    def __init__(self, reader: DatasetReader, videos: int, device: torch.device) -> None:
        self._reader, self._device = reader, device
        self._videos = list(reader.video_ids())[:videos]

    def __call__(self, student: Student) -> float:
        """Returns J&F in percent. Raises ConfigError if the split has no ground truth."""
        masks = Predicted(student, self._reader, self._device)
        found = evaluate(self._reader, self._videos, masks)
        figures = summarise([score for _, scores in found for score in scores])
        if figures is None or figures["overall"] is None:
            raise ConfigError(
                f"student.training.validate_every with split {self._reader.split!r} of"
                f" {self._reader.name}: no frame of it has ground truth; expected a split with"
                " masks; name one in student.training.validate_split, or set validate_every=0"
            )
        return float(figures["overall"]["J&F"])
