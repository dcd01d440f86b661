"""Prepares frames for models with ImageNet statistics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import InputError

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def to_device(images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Copies B frames uint8 [H, W, 3] of one size to the device: [B, H, W, 3].

    The copy to a GPU uses pinned memory, so that the calling thread does not wait for it.
    """
    stacked = torch.from_numpy(np.stack(images))
    if device.type == "cuda":
        return stacked.pin_memory().to(device, non_blocking=True)
    return stacked.to(device)


def wait_for(device: torch.device) -> None:
    """Waits until all copies from a device have arrived."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def resized(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Returns height and width after a resize of the short side, with the long side bounded."""
    short, long = min(height, width), max(height, width)
    if long / short * short_side > long_side:
        short_side = round(long_side * short / long)
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes uint8 [B, H, W, 3] to [B, 3, H', W'], with anti-aliasing, to whole numbers.

    The result is uint8 on a CPU. Elsewhere it is float32, since PyTorch has no such kernel for
    bytes.

    Raises:
        InputError: the frames are so narrow that a side would have no pixel.
    """
    if min(size) < 1:
        height, width = images.shape[1:3]
        raise InputError(
            f"frames of {height} x {width} pixels",
            "too narrow to be resized for a model",
            "a short side that has a pixel left after the long side is resized",
            "crop them, or leave the video out",
        )
    channels_first = images.permute(0, 3, 1, 2)
    bytes_too = images.device.type == "cpu"
    scaled = F.interpolate(
        channels_first if bytes_too else channels_first.float(),
        size=size, mode="bilinear", antialias=True, align_corners=False,
    )  # fmt: skip
    return scaled if bytes_too else scaled.round()


def normalise_frames(images: Tensor, short_side: int, long_side: int) -> Tensor:
    """Resizes and normalises uint8 [B, H, W, 3] to float32 [B, 3, H', W']."""
    scaled = resize(images, resized(images.shape[1], images.shape[2], short_side, long_side))
    mean, std = _statistics(images.device)
    return (scaled.float() / 255 - mean) / std


@lru_cache(maxsize=8)
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """ImageNet's mean and deviation [3, 1, 1]; a copy a batch would wait for the device each
    time."""
    mean, std = (torch.tensor(values)[:, None, None].to(device) for values in (_MEAN, _STD))
    return mean, std
