"""Low-resolution mask logits and the frame they stand for.

segment-anything puts a frame into a square input of side S, long side filled, padding below or on
the right, and gives logits of S / 4 cells a side. What is kept of them covers the frame.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

LOW_RESOLUTION = 4
"""Input pixels to a cell of the decoder's masks, in every model of segment-anything."""


_ROUNDING = 0.01
"""More than a mean of logits can be above the greatest of them, in float32."""
_ALIKE = 132
"""Pixels of an axis from which on torch makes an image in one way; it makes those of height and
width of at most 128 together in another, whose last bits differ."""


def input_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of a frame inside the square input, long side ``side``."""
    scale = side / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def crop_padding(logits: Tensor, height: int, width: int) -> Tensor:
    """Cuts low-resolution masks [n, S/4, S/4] to the frame and one cell beyond.

    The cell beyond keeps the bilinear enlargement exact at the frame's edge. The long side has
    no padding and stays at S/4 cells, which is how :func:`enlarge` knows S.
    """
    side = logits.shape[-1] * LOW_RESOLUTION
    rows, columns = (-(-extent // LOW_RESOLUTION) + 1 for extent in input_size(height, width, side))
    return logits[..., :rows, :columns]


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """Cropped low-resolution masks [n, h, w] to the frame's pixels [n, height, width].

    The two bilinear steps of ``Sam.postprocess_masks``: to the input's size, then to the frame's.
    """
    if not len(logits):
        return logits.new_zeros((0, height, width), dtype=torch.float32)
    size = input_size(height, width, max(logits.shape[-2:]) * LOW_RESOLUTION)
    scale = [extent * LOW_RESOLUTION for extent in logits.shape[-2:]]
    wide = F.interpolate(logits[:, None].float(), scale, mode="bilinear", align_corners=False)
    wide = wide[..., : size[0], : size[1]]
    return F.interpolate(wide, (height, width), mode="bilinear", align_corners=False)[:, 0]


def enlarged_above(
    logits: NDArray[np.float16], height: int, width: int, cut: float
) -> NDArray[np.bool_]:
    """The pixels of a frame where :func:`enlarge` of one mask is above a cut, without the rest.

    Both steps are means of neighbours: where no cell near by is above the cut, no pixel is. So only
    the cells about those that are go through the first step, and only the frame up to where these
    end through the second. The pixels made are those of :func:`enlarge`, bit for bit: the place of
    a quarter of a cell within its cell is exact, and the second step counts from the frame's
    corner, as it does for the whole frame.

    Args:
        logits: [h, w], cropped as by :func:`crop_padding`.
        height, width: of the frame, pixels.
        cut: logit.

    Returns:
        bool [height, width].
    """
    found = np.zeros((height, width), np.bool_)
    whole = [extent * LOW_RESOLUTION for extent in logits.shape]
    size = [min(pair) for pair in zip(whole, input_size(height, width, max(whole)), strict=True)]
    cells = torch.from_numpy(logits).float()
    near = cells.numpy() > cut - _ROUNDING
    (top, bottom), (left, right) = (_span(np.asarray(near.any(axis=1 - axis))) for axis in (0, 1))
    row, column = top * LOW_RESOLUTION, left * LOW_RESOLUTION
    if bottom == top or row >= size[0] or column >= size[1]:
        return found
    rows_in, rows, down = _start(bottom * LOW_RESOLUTION, size[0], height)
    columns_in, columns, across = _start(right * LOW_RESOLUTION, size[1], width)
    scale = [(bottom - top) * LOW_RESOLUTION, (right - left) * LOW_RESOLUTION]
    part = cells[None, None, top:bottom, left:right]
    part = F.interpolate(part, scale, mode="bilinear", align_corners=False)
    wide = torch.full((1, 1, rows_in, columns_in), float(cut - 1))
    held = wide[..., row : row + scale[0], column : column + scale[1]]
    held.copy_(part[..., : held.shape[-2], : held.shape[-1]])
    made = torch.ops.aten.upsample_bilinear2d(wide, [rows, columns], False, 1 / down, 1 / across)
    found[:rows, :columns] = (made[0, 0] > cut).numpy()
    return found


def _span(near: NDArray[np.bool_]) -> tuple[int, int]:
    """The cells of an axis that pixels above the cut are made of: the first, and the one past the
    last; equal where there are none. Of those near (bool [n]) and two on either side: a pixel of
    the first step is of two cells, one of the second of two of these."""
    cells = np.flatnonzero(near)
    if not len(cells):
        return 0, 0
    least = _ALIKE // LOW_RESOLUTION
    end = min(max(int(cells[-1]) + 3, least), len(near))
    return max(min(int(cells[0]) - 2, end - least), 0), end


def _start(end: int, size: int, pixels: int) -> tuple[int, int, float]:
    """How much of an axis the second step takes and makes.

    Args:
        end: pixel of the input past which nothing is above the cut.
        size: of the frame in the input.
        pixels: of the frame.

    Returns:
        Pixels of the input, those of the frame made of them, and the input's to one of the frame's.
    """
    # As torch divides for the whole frame.
    step = float(np.float32(size) / np.float32(pixels))
    taken = min(end, size)
    made = min(max(math.ceil(taken / step) + 1, _ALIKE), pixels)
    # torch copies an axis whose length stays the same, whatever the step.
    return (size, pixels, step) if made == taken else (taken, made, step)
