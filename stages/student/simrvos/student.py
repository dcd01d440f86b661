"""SimRVOS as a :class:`~stages.student.contract.Student`: its network, what it costs, its masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config import SimrvosStudentConfig
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.frames import by_size, distinct_frames, prepare_frames
from stages.student.simrvos.losses import loss_terms
from stages.student.simrvos.model import SimRVOS
from stages.student.simrvos.slvp import motion_terms


class SimRVOSStudent(Student):
    """Trains and asks a :class:`~stages.student.simrvos.model.SimRVOS`.

    Args:
        network: the equations.
        config: which terms of the loss are on, and the frames' short side.
    """

    def __init__(self, network: SimRVOS, config: SimrvosStudentConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """The terms of eq 21, or of SLVP's loss where optical flow teaches, over clips whose frame
        sizes may differ; BLCL takes the student's predictions for pseudo-masks from epoch 1 on."""
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
        """Mask logits [E, T, h, w] of E sentences in T frames uint8 [T, H, W, 3], which are
        encoded once for all of them. Each frame is looked at alone, but for a video encoder."""
        prepared, frames = self._prepared(images), len(images)
        rows = list(range(frames)) * len(texts)
        said = [text for text in texts for _ in range(frames)]
        logits = self.network.look(prepared, said, rows, [frames]).logits
        masks: Tensor = logits.unflatten(0, (len(texts), frames))
        return masks

    def _prepared(self, images: Tensor) -> Tensor:
        device = next(self.parameters()).device
        return prepare_frames(images.to(device), self._config.short_side)
