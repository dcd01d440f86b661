"""The interface of every student, for the training loop and for prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stages.student.data.clips import Clip

SETTLING_FRAMES = 64
"""Most frames of a video that a student settles on."""


@dataclass(frozen=True)
class StepSize:
    """The size of an optimiser step, over all its parts and all processes.

    Losses are divided by it, so that the losses of the parts of a step add up to that of the whole,
    whether one process or several compute them.

    Attributes:
        clips: number of clips.
        weight: sum of the weights of all frames, above 0.
    """

    clips: int
    weight: float


class Student(nn.Module, ABC):
    """A referring-video-segmentation model with its own loss.

    Parameters with ``image_encoder.`` in their name have a learning rate of their own.
    """

    @abstractmethod
    def forward(self, clips: Sequence[Clip], step: StepSize, epoch: int) -> dict[str, Tensor]:
        """Returns the terms of the loss for a part of a step.

        Args:
            clips: the part's clips; their frame sizes may differ.
            step: size of the whole step.
            epoch: how often every sample has been seen, from 0.

        Returns:
            Name -> scalar, with its weight, divided by the size of the whole step. The loss is
            their sum.
        """

    def settle(self, draws: Iterable[Sequence[Clip]]) -> None:
        """Sets, after the training, what only whole videos can teach. By default nothing.

        Args:
            draws: for each video, clips of several sentences on the same successive frames, up to
                ``SETTLING_FRAMES`` of them.
        """

    @abstractmethod
    def predict(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Returns mask logits [E, T, h, w] of E sentences in T consecutive frames.

        Args:
            images: uint8 [T, H, W, 3], on the student's device.
            texts: E sentences.
        """

    def predict_windows(self, windows: Iterable[Tensor], texts: Sequence[str]) -> Iterator[Tensor]:
        """Yields the mask logits [E, n, h, w] of each window of a video.

        By default each window is predicted by itself. A student may look at all windows before it
        yields the first, but keeps neither their frames nor their masks in memory.

        Args:
            windows: images uint8 [n, H, W, 3] of n frames, on the student's device; successive.
            texts: E sentences.
        """
        for images in windows:
            yield self.predict(images, texts)
