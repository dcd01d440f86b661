"""Predicts a student's masks of a video window by window, in memory that does not grow with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.ports import DatasetReader, Image
from pipeline.types import FrameIndex, VideoRef
from stages.student.contract import Student
from stages.student.weak.losses import resize_logits

MOST = 65535
"""The score that stands for the probability 1."""


@dataclass(frozen=True)
class Window:
    """The masks of n frames of a video.

    Attributes:
        frames: positions of the frames.
        masks: bool [E, n, H, W], of E sentences.
        sure: float32 [E, n], mean probability inside each mask; 0 if it is empty.
        scores: uint16 [E, n, H, W], probability times MOST; None if it was not asked for.
    """

    frames: range
    masks: NDArray[np.bool_]
    sure: NDArray[np.float32]
    scores: NDArray[np.uint16] | None = None


@torch.inference_mode()
def predict_video(
    student: Student,
    reader: DatasetReader,
    video: VideoRef,
    texts: Sequence[str],
    device: torch.device,
    *,
    frames: int = 8,
    online: bool = False,
    threshold: float = 0.5,
    scores: bool = False,
    wanted: Collection[int] | None = None,
) -> Iterator[Window]:
    """Yields the masks of all sentences, window by window.

    Args:
        student: a student on the device, in evaluation mode.
        frames: number of frames in a window.
        online: whether nothing looks ahead. Then each window ends with the one frame that is
            predicted, after frames that were seen before.
        threshold: a pixel is in the mask if its probability exceeds this.
        scores: whether to yield the probability of every pixel too.
        wanted: positions of frames; windows that hold none of them are left out. None for all.

    Raises:
        InputError: a frame cannot be read.
    """
    if not texts:
        yield from _of_nothing(video, frames, scores)
        return
    parts = [
        part
        for part in windows(len(video), 1 if online else frames)
        if wanted is None or set(part).intersection(wanted)
    ]

    def image(index: int) -> Image:
        return reader.frame(video, FrameIndex(index))

    def stacked(images: Iterable[Image]) -> Tensor:
        return torch.from_numpy(np.stack(list(images))).to(device)

    def online_logits() -> Iterator[Tensor]:
        held: deque[Image] = deque(maxlen=frames)
        for index in range(parts[-1].stop if parts else 0):
            held.append(image(index))
            if wanted is None or index in wanted:
                yield student.predict(stacked(held), texts)[:, -1:]

    shown = (stacked(map(image, part)) for part in parts)
    found = online_logits() if online else student.predict_windows(shown, texts)
    for part, logits in zip(parts, found, strict=True):
        yield _window(part, logits, (video.height, video.width), threshold, scores)


def _window(
    part: range, logits: Tensor, size: tuple[int, int], threshold: float, scores: bool
) -> Window:
    """Returns the masks of a window's logits [E, n, h, w] in the frames' size (H, W)."""
    masks, sure, exact = [], [], []
    for item in logits:
        chance = resize_logits(item.float(), *size).sigmoid()
        mask = chance > threshold
        inside = (chance * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
        masks.append(mask.cpu().numpy())
        sure.append(inside.cpu().numpy().astype(np.float32))
        if scores:
            exact.append((chance * MOST).round().cpu().numpy().astype(np.uint16))
    return Window(part, np.stack(masks), np.stack(sure), np.stack(exact) if scores else None)


def _of_nothing(video: VideoRef, frames: int, scores: bool) -> Iterator[Window]:
    """The windows of a video without sentences."""
    for part in windows(len(video), frames):
        nothing = np.zeros((0, len(part), video.height, video.width), np.uint16)
        sure = np.zeros((0, len(part)), np.float32)
        yield Window(part, nothing.astype(bool), sure, nothing if scores else None)


def windows(length: int, frames: int) -> Iterator[range]:
    """Yields the positions of each window of a video of ``length`` frames."""
    for start in range(0, length, frames):
        yield range(start, min(start + frames, length))
