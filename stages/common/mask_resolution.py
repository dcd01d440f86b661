"""Resizing between low-resolution mask logits and the pixels of a frame.

segment-anything resizes a frame's long side to S, pads it below or on the right to a square, and
computes logits of S / 4 x S / 4 cells. Only the cells that cover the frame are stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

LOW_RESOLUTION = 4
"""Input pixels to a cell of the decoder's masks, in every model of segment-anything."""


def input_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Returns the height and width of a frame inside the square input of this side."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def low_resolution_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Returns the rows and columns of a frame's low-resolution masks: its own, and one more.

    The additional cell keeps the bilinear resize exact at the frame's edge. The long side has no
    padding and keeps S / 4 cells, from which :func:`enlarge` finds S.
    """
    rows, columns = (
        min(-(-extent // LOW_RESOLUTION) + 1, side // LOW_RESOLUTION)
        for extent in input_size(height, width, side)
    )
    return rows, columns


def enlarge(logits: Tensor, height: int, width: int) -> Tensor:
    """Resizes cropped low-resolution masks [n, h, w] to pixels [n, height, width].

    It takes the two bilinear steps of ``Sam.postprocess_masks``: to the size of the input, then to
    that of the frame.
    """
    if not len(logits):
        return logits.new_zeros((0, height, width), dtype=torch.float32)
    size = input_size(height, width, max(logits.shape[-2:]) * LOW_RESOLUTION)
    scale = [extent * LOW_RESOLUTION for extent in logits.shape[-2:]]
    wide = F.interpolate(logits[:, None].float(), scale, mode="bilinear", align_corners=False)
    wide = wide[..., : size[0], : size[1]]
    return F.interpolate(wide, (height, width), mode="bilinear", align_corners=False)[:, 0]


def mask_above(logits: Tensor, height: int, width: int, cut: float) -> Tensor:
    """Returns where :func:`enlarge` exceeds ``cut``, up to rounding: bool [height, width].

    A pixel is a weighted mean of cells, so it can exceed the cut only near a cell that does. Only
    the pixels around those cells are computed, with both steps along an axis in one product.

    Args:
        logits: one cropped low-resolution mask [h, w], on the CPU.
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    cells = logits.float()
    above = cells > cut
    inner = input_size(height, width, max(logits.shape) * LOW_RESOLUTION)
    down = _Axis.of(logits.shape[0], inner[0], height)
    across = _Axis.of(logits.shape[1], inner[1], width)
    rows, columns = down.around(above.any(1)), across.around(above.any(0))
    if rows is None or columns is None:
        return mask
    (seen_rows, shown_rows), (seen_columns, shown_columns) = rows, columns
    wide = cells[seen_rows, seen_columns] @ across.weights[shown_columns, seen_columns].T
    mask[shown_rows, shown_columns] = down.weights[shown_rows, seen_rows] @ wide > cut
    return mask


@dataclass(frozen=True)
class _Axis:
    """The two bilinear steps along one axis.

    Attributes:
        weights: float32 [pixels, cells], the weight of each cell in each pixel.
        cells: int64 [pixels, 2], the range of cells with weight in each pixel, half-open.
        pixels: int64 [cells, 2], the range of pixels in which each cell has weight, half-open; may
            be empty.
    """

    weights: Tensor
    cells: Tensor
    pixels: Tensor

    @staticmethod
    @lru_cache(maxsize=16)
    def of(cells: int, inner: int, pixels: int) -> _Axis:
        """Returns the axis for these numbers of cells, pixels in the square input, and pixels."""
        alone = torch.eye(cells)[:, None]
        wide = F.interpolate(alone, cells * LOW_RESOLUTION, mode="linear", align_corners=False)
        found = F.interpolate(wide[..., :inner], pixels, mode="linear", align_corners=False)
        weights = found[:, 0].T.contiguous()
        return _Axis(weights, _ranges(weights > 0), _ranges(weights.T > 0))

    def around(self, above: Tensor) -> tuple[slice, slice] | None:
        """Returns all cells that have weight in the pixels around some cells, and those pixels.

        None if there are no such pixels.

        Args:
            above: bool [cells].
        """
        pixels = self.pixels[above]
        pixels = pixels[pixels[:, 0] < pixels[:, 1]]
        if not len(pixels):
            return None
        first, end = int(pixels[0, 0]), int(pixels[-1, 1])
        return slice(int(self.cells[first, 0]), int(self.cells[end - 1, 1])), slice(first, end)


def _ranges(counts: Tensor) -> Tensor:
    """Returns the range of each row of bool [n, m] that holds its True values: int64 [n, 2].

    The range is half-open; 0 and 0 if there are none.
    """
    end = counts.shape[1] - counts.flip(1).int().argmax(1)
    found = torch.stack([counts.int().argmax(1), end], 1)
    return torch.where(counts.any(1, keepdim=True), found, 0)
