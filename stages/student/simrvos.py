"""SimRVOS as a :class:`~stages.student.contract.Student`: its network, what it costs, its masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import StudentConfig
from stages.frames import normalise_frames
from stages.student.clips import Clip
from stages.student.contract import StepSize, Student
from stages.student.losses import loss_terms
from stages.student.model import SimRVOS


class SimRVOSStudent(Student):
    """Trains and asks a :class:`~stages.student.model.SimRVOS`.

    Args:
        network: the equations.
        config: which terms of the loss are on, and the frames' short side.
    """

    def __init__(self, network: SimRVOS, config: StudentConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """The terms of eq 21 over clips whose frame sizes may differ; BLCL takes the student's
        predictions for pseudo-masks from epoch 1 on."""
        by_size: dict[tuple[int, int], list[Clip]] = {}
        for clip in clips:
            by_size.setdefault(clip.size, []).append(clip)
        total: dict[str, Tensor] = {}
        for group in by_size.values():
            images, rows = distinct_frames(group)
            prepared = self._prepared(torch.from_numpy(images))
            texts = [clip.text for clip in group for _ in clip.images]
            found = self.network.look(prepared, texts, rows)
            terms = loss_terms(
                found,
                group,
                self._config,
                (prepared.shape[2] // 2, prepared.shape[3] // 2),
                size=step.weight,
                predictions_count=epoch > 0,
            )
            for name, value in terms.items():
                total[name] = total[name] + value if name in total else value
        return total

    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Mask logits [E, T, h, w] of E sentences in T frames uint8 [T, H, W, 3], which are
        encoded once for all of them. Each frame is looked at alone."""
        prepared, frames = self._prepared(images), len(images)
        rows = list(range(frames)) * len(texts)
        said = [text for text in texts for _ in range(frames)]
        logits = self.network.look(prepared, said, rows).logits
        masks: Tensor = logits.unflatten(0, (len(texts), frames))
        return masks

    def _prepared(self, images: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return prepare_frames(images.to(device), self._config.short_side)


def distinct_frames(clips: Sequence[Clip]) -> tuple[NDArray[np.uint8], list[int]]:
    """The frames of clips of one size, those that clips share but once.

    Returns:
        uint8 [M, H, W, 3], and for each of the N frames of the clips, one after the other, the row
        that it is.
    """
    starts: dict[int, int] = {}
    images: list[NDArray[np.uint8]] = []
    rows: list[int] = []
    for clip in clips:
        if id(clip.images) not in starts:
            starts[id(clip.images)] = len(images)
            images += clip.images
        start = starts[id(clip.images)]
        rows += range(start, start + len(clip.images))
    return np.stack(images), rows


def prepare_frames(images: Tensor, short_side: int) -> Tensor:
    """uint8 [N, H, W, 3] to normalised float32 [N, 3, H', W'], the short side at ``short_side``."""
    return normalise_frames(images, short_side, 4 * short_side)
