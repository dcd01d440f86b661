"""Overlays of masks on frames, as small images in ``data:`` URLs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.marks import marked
from pipeline.ports import Image
from pipeline.types import Status
from stages.common.data_urls import jpeg_data_url

PREDICTED = (64, 156, 255)
"""Blue: what the run says. RGB."""

TRUE = (255, 196, 61)
"""Amber: what the data set says. RGB."""

OTHER = (255, 110, 220)
"""Pink: another object that the run could take. RGB."""

_TINT = 0.35
_VEIL = 0.75
_GREY = 0.5
_QUALITY = 82
_STRIPE = 9


def overlay(
    image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int], width: int
) -> Image:
    """Returns a frame [H, W, 3] with its mask [H, W] highlighted, uint8 [h, width, 3].

    The rest of the frame is greyer and darker, because no fill colour is visible on every object.
    """
    small, shape = _resized(image, mask, width)
    if not shape.any():
        return small
    values = small.astype(np.float32)
    grey = values.mean(-1, keepdims=True)
    result = _VEIL * ((1 - _GREY) * values + _GREY * grey)
    result[shape] = (1 - _TINT) * values[shape] + _TINT * np.array(colour, np.float32)
    return _outlined(result.astype(np.uint8), shape, colour)


def predicted_frame(image: Image, mask: NDArray[np.bool_], status: int, width: int) -> Image:
    """Returns a frame with its mask if it is present, or with stripes if it is unknown."""
    if status == Status.PRESENT:
        return overlay(image, mask, PREDICTED, width)
    small, _ = _resized(image, mask, width)
    if status == Status.UNKNOWN:
        return _striped(small)
    return small


def marked_frame(
    image: Image, numbers: Sequence[int], masks: NDArray[np.bool_], width: int
) -> Image:
    """Returns a frame with its tracks: masks [n, H, W] and their numbers."""
    small = _resized(image, np.zeros(image.shape[:2], np.bool_), width)[0]
    shapes = [_resized(image, mask, width)[1] for mask in masks]
    return marked(small, np.stack(shapes), numbers) if shapes else small


def jpeg_url(image: Image) -> str:
    """Returns an image [H, W, 3] as the ``data:`` URL of its JPEG."""
    return jpeg_data_url(image, _QUALITY)


def _resized(image: Image, mask: NDArray[np.bool_], width: int) -> tuple[Image, NDArray[np.bool_]]:
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)
    shape = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return small, np.asarray(shape >= 0.5)


def _striped(image: Image) -> Image:
    """The image in pale grey under diagonal stripes."""
    grey = 0.35 * image.mean(-1, keepdims=True) + 110
    rows, columns = np.indices(image.shape[:2])
    stripe = 28.0 * np.less((rows + columns) % _STRIPE, 2).astype(np.float64)[..., None]
    return np.repeat(np.clip(grey - stripe, 0, 255), 3, axis=-1).astype(np.uint8)


def _outlined(image: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> Image:
    image = np.ascontiguousarray(image)
    thick = max(1, image.shape[1] // 110)
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    # A dark rim separates the line from an object of the same colour.
    cv2.drawContours(image, lines, -1, (20, 20, 20), thick + 2, cv2.LINE_AA)
    cv2.drawContours(image, lines, -1, colour, thick, cv2.LINE_AA)
    return image
