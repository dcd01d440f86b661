"""What the training loop and prediction need of a student, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stages.student.data.clips import Clip


@dataclass(frozen=True)
class StepSize:
    """How much one optimiser step holds, over all its parts and all processes.

    A loss divided by it adds up: the parts of a step, worked on one after the other or by several
    processes, sum to the loss of the whole.

    Attributes:
        clips: number of clips.
        weight: of all frames, above 0.
    """

    clips: int
    weight: float


class Student(nn.Module, ABC):
    """A referring-video-segmentation model with its own loss.

    Parameters under a name that holds ``image_encoder.`` have a learning rate of their own.
    """

    @abstractmethod
    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """The terms of the loss by name, of a part of a step; each a scalar, weighted, and divided
        by the size of the whole step. Their sum is what the gradient is taken of.

        Args:
            clips: frame sizes may differ.
            step: of the whole step.
            epoch: from 0, how often every sample has been seen.
        """

    @abstractmethod
    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Mask logits [E, T, h, w] of E sentences in T frames that follow one another.

        Args:
            images: uint8 [T, H, W, 3], on the student's device.
            texts: E sentences.
        """
