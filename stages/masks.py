"""Low-resolution mask logits and the frame they stand for.

segment-anything puts a frame into a square input of side S, long side filled, padding below or on
the right, and gives logits of S / 4 cells a side. What is kept of them covers the frame.
"""

from __future__ import annotations

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
