"""Frames as captioners take them: within a budget of pixels, of a shape that none refuses, and with
the times at which they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow

from pipeline.config import AugmentConfig
from pipeline.errors import ConfigError
from pipeline.ports import Image
from pipeline.types import VideoRef

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


def times_of(video: VideoRef, picked: Sequence[int], config: AugmentConfig) -> tuple[float, ...]:
    """Returns when the picked frames of a video are shown, seconds after its first frame.

    Raises:
        ConfigError: neither the data set nor the configuration says it.
    """
    if video.times:
        return tuple(video.times[index] for index in picked)
    if config.frames_per_second is None:
        raise ConfigError(
            f"augment.input='video': nothing says when the frames of video {video.id} are shown;"
            " set augment.frames_per_second to the rate of the data set's frames, or augment.input"
            " to 'images'"
        )
    return tuple(index / config.frames_per_second for index in picked)
