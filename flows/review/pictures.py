"""Frames of a sample as JPEGs, with what the page shows in them. Letters: H W pixels."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flows.report.draw import OTHER, TRUE, overlay, predicted_frame
from flows.review.opened import Opened
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex

Show = Literal["mask", "plain", "truth", "track"]

_QUALITY = 85


def picture(
    reader: DatasetReader, opened: Opened, frame: int, show: Show, track: int, width: int
) -> bytes:
    """Returns a frame as a JPEG.

    Args:
        show: ``mask``: with the sample's mask; ``track``: with a track's; ``truth``: with the
            ground truth, if there is one; ``plain``: alone.
        track: number of the track.
        width: of the image, pixels; at most the frame's.
    """
    image = reader.frame(opened.video, FrameIndex(frame))
    wide = min(width, opened.video.width)
    if show == "mask":
        drawn = predicted_frame(image, opened.mask(frame), opened.rows[frame].status, wide)
        return _jpeg(drawn)
    shown: NDArray[np.bool_] | None = None
    if show == "track":
        shown, _ = opened.track_masks.mask(frame, track)
    elif show == "truth":
        shown = _truth(reader, opened, frame)
    mask = np.zeros(image.shape[:2], np.bool_) if shown is None else shown
    return _jpeg(overlay(image, mask, TRUE if show == "truth" else OTHER, wide))


def drawn_picture(
    reader: DatasetReader, opened: Opened, frame: int, mask: NDArray[np.bool_], width: int
) -> bytes:
    """Returns a frame with a mask [H, W] that is not decided yet, as a JPEG."""
    image = reader.frame(opened.video, FrameIndex(frame))
    return _jpeg(overlay(image, mask, OTHER, min(width, opened.video.width)))


def has_truth(reader: DatasetReader, opened: Opened) -> bool:
    """Returns whether a sample has ground truth in some frame."""
    frames = range(len(opened.video))
    return any(_truth(reader, opened, frame) is not None for frame in frames)


def _truth(reader: DatasetReader, opened: Opened, frame: int) -> NDArray[np.bool_] | None:
    try:
        return reader.truth(opened.video, opened.expression, FrameIndex(frame))
    except InputError:
        return None


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
