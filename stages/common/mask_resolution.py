"""Low-resolution mask logits and the frame they stand for.

segment-anything puts a frame into a square input of side S, long side filled, padding below or on
the right, and gives logits of S / 4 cells a side. What is kept of them covers the frame.
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
    """Height and width of a frame inside the square input, long side ``side``."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def low_resolution_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of low-resolution masks that are kept of a frame: its own and one beyond.

    The cell beyond keeps the bilinear enlargement exact at the frame's edge. The long side has
    no padding and stays at S / 4 cells, which is how :func:`enlarge` knows S.
    """
    rows, columns = (
        min(-(-extent // LOW_RESOLUTION) + 1, side // LOW_RESOLUTION)
        for extent in input_size(height, width, side)
    )
    return rows, columns


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


def mask_above(logits: Tensor, height: int, width: int, cut: float) -> Tensor:
    """Where :func:`enlarge` gives more than ``cut``, but for rounding: bool [height, width].

    A pixel is a weighted mean of cells, so none is above the cut that sees no cell above it: only
    the pixels around those cells are worked out, both steps along an axis in one product.

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
    """Both bilinear steps along one axis.

    Attributes:
        weights: float32 [pixels, cells], what each cell counts for in each pixel.
        cells: int64 [pixels, 2], the first cell that counts in each pixel and the one after the
            last.
        pixels: int64 [cells, 2], the first pixel that each cell counts in and the one after the
            last; nothing where it counts in none.
    """

    weights: Tensor
    cells: Tensor
    pixels: Tensor

    @staticmethod
    @lru_cache(maxsize=16)
    def of(cells: int, inner: int, pixels: int) -> _Axis:
        """The axis of so many cells, pixels of the square input that the frame has, and pixels."""
        alone = torch.eye(cells)[:, None]
        wide = F.interpolate(alone, cells * LOW_RESOLUTION, mode="linear", align_corners=False)
        found = F.interpolate(wide[..., :inner], pixels, mode="linear", align_corners=False)
        weights = found[:, 0].T.contiguous()
        return _Axis(weights, _ranges(weights > 0), _ranges(weights.T > 0))

    def around(self, above: Tensor) -> tuple[slice, slice] | None:
        """The pixels that see any of some cells, and before them all cells that these pixels see;
        None where none does.

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
    """Of each row of bool [n, m] the first place that is True and the one after the last, int64
    [n, 2]; 0 and 0 where none is."""
    end = counts.shape[1] - counts.flip(1).int().argmax(1)
    found = torch.stack([counts.int().argmax(1), end], 1)
    return torch.where(counts.any(1, keepdim=True), found, 0)
