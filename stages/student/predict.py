"""Predicts a student's masks of a video window by window, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.ports import DatasetReader
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
        frames: number of frames in a window. The student sees no other frames with them.
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
    held: list[NDArray[np.uint8]] = []
    for part in windows(len(video), 1 if online else frames):
        unwanted = wanted is not None and not set(part).intersection(wanted)
        if unwanted and not online:
            continue
        fresh = [reader.frame(video, FrameIndex(index)) for index in part]
        held = [*held, *fresh][-frames:] if online else fresh
        if unwanted:
            continue
        images = torch.from_numpy(np.stack(held)).to(device)
        masks, sure, exact = [], [], []
        for logits in student.predict(images, texts)[:, -len(part) :]:
            chance = resize_logits(logits.float(), video.height, video.width).sigmoid()
            mask = chance > threshold
            inside = (chance * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
            masks.append(mask.cpu().numpy())
            sure.append(inside.cpu().numpy().astype(np.float32))
            if scores:
                exact.append((chance * MOST).round().cpu().numpy().astype(np.uint16))
        yield Window(part, np.stack(masks), np.stack(sure), np.stack(exact) if scores else None)


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
