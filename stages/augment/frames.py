"""Frames as captioners take them: within a budget of pixels, and of a shape that none refuses."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as Pillow

from pipeline.ports import Image

SMALLEST_SIDE = 28
"""Pixels. Processors of Qwen-VL refuse a frame with a shorter side: it holds no whole token."""

LARGEST_ASPECT = 200
"""Long side by short side. Processors of Qwen-VL refuse a larger one."""


def fitted(image: Image, max_pixels: int | None) -> Image:
    """Returns a frame that a captioner takes.

    A frame of too many pixels is scaled down. One that is too small or too narrow gets a grey
    border at the right and at the bottom.

    Args:
        image: RGB uint8 [H, W, 3].
        max_pixels: the most pixels; a border is not counted. None for no limit.
    """
    height, width = image.shape[:2]
    if max_pixels is not None and height * width > max_pixels:
        scale = math.sqrt(max_pixels / (height * width))
        height, width = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
        resized = Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BICUBIC)
        image = np.asarray(resized)
    least = max(SMALLEST_SIDE, math.ceil(max(height, width) / LARGEST_ASPECT))
    missing = max(0, least - height), max(0, least - width)
    if not any(missing):
        return image
    border = ((0, missing[0]), (0, missing[1]), (0, 0))
    return np.pad(image, border, constant_values=128)
