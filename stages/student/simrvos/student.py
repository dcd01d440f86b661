"""SimRVOS as a :class:`~stages.student.contract.Student`: its network, its loss, its masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config import SimrvosStudentConfig
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, distinct_frames, prepare_frames
from stages.student.simrvos.model import SimRVOS
from stages.student.simrvos.slvp import motion_terms
from stages.student.weak.losses import loss_terms


class SimRVOSStudent(Student):
    """A student around a :class:`~stages.student.simrvos.model.SimRVOS`.

    Args:
        network: the model of the equations.
        config: the terms of the loss, and the frames' short side.
    """

    def __init__(self, network: SimRVOS, config: SimrvosStudentConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms of eq 21, or of SLVP's loss if optical flow teaches.

        Frame sizes of the clips may differ. From epoch 1 on, BLCL uses the student's predictions as
        pseudo-masks.
        """
        total: dict[str, Tensor] = {}
        for group in by_size(clips):
            images, rows, lengths = distinct_frames(group)
            prepared = self._prepared(torch.from_numpy(images))
            texts = [clip.text for clip in group for _ in clip.images]
            found = self.network.look(prepared, texts, rows, lengths)
            grid = prepared.shape[2] // 2, prepared.shape[3] // 2
            if self._config.supervision == "flow":
                terms = motion_terms(found.logits, group, self._config.slvp, grid, step.weight)
            else:
                terms = loss_terms(
                    found,
                    group,
                    self._config.simrvos,
                    grid,
                    size=step.weight,
                    predictions_count=epoch > 0,
                )
            for name, value in terms.items():
                total[name] = total[name] + value if name in total else value
        return total

    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [E, T, h, w] of E sentences in T frames uint8 [T, H, W, 3].

        The frames are encoded once for all sentences. Unless the encoder is a video encoder, each
        frame is processed alone.
        """
        prepared, frames = self._prepared(images), len(images)
        rows = list(range(frames)) * len(texts)
        said = [text for text in texts for _ in range(frames)]
        logits = self.network.look(prepared, said, rows, [frames]).logits
        masks: Tensor = logits.unflatten(0, (len(texts), frames))
        return masks

    def _prepared(self, images: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return prepare_frames(images.to(device), self._config.short_side)
