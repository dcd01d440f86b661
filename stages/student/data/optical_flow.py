"""Optical flow between frames as supervision (SLVP, WACVW 2024).

Letters: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.ports import DatasetReader, Image
from pipeline.types import FrameIndex, VideoRef
from stages.student.data.supervision import FrameSupervision, KnownFrames, of_flow, unless_broken

_FLOWS_KEPT = 16
"""The sentences of a clip ask for the same frames one after the other; a flow of 360p is 1.8 MB."""

_SAME = 0.5
"""Pixels: motion that differs from the camera's by less is the camera's."""
_PATCH = 5
"""Pixels on a side that two explanations of a pixel are compared over."""
_NOT_WORSE, _CLEARLY_BETTER = 1.2, 1.5


def optical_flow(before: Image, after: Image, window: int) -> NDArray[np.float32]:
    """Returns the optical flow from one frame to the next, by Farneback's method.

    It needs no weights. The method gives about ten still pixels around a moving object that
    object's motion, from which no outline could be learnt. So its flow is compared with both
    frames. If the camera's motion (the median flow) explains a pixel about as well, the pixel gets
    that. If neither explains it clearly better, its motion is unknown.

    Args:
        before, after: uint8 [H, W, 3], of one size.
        window: side of the square of pixels that a pixel's flow is estimated from.

    Returns:
        float32 [H, W, 2], x and y in pixels; NaN where it is unknown.
    """
    here, there = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, after))
    start = np.zeros((*here.shape, 2), np.float32)
    found = cv2.calcOpticalFlowFarneback(
        here, there, start, pyr_scale=0.5, levels=4, winsize=window, iterations=5, poly_n=7,
        poly_sigma=1.5, flags=0,
    )  # fmt: skip
    flow = np.asarray(found, np.float32)
    camera = np.broadcast_to(np.median(flow, (0, 1)).astype(np.float32), flow.shape)
    off_camera, off_flow = (_difference(before, after, each) for each in (camera, flow))
    apart = np.linalg.norm(flow - camera, axis=-1) > _SAME
    with_camera = apart & (off_camera < _NOT_WORSE * off_flow)
    in_doubt = apart & ~with_camera & (off_camera < _CLEARLY_BETTER * off_flow)
    flow = np.where(with_camera[..., None], camera, flow)
    flow[in_doubt] = np.nan
    return flow


def _difference(before: Image, after: Image, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the mean colour difference, over a patch, that a flow leaves: [H, W]."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        after, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    off = cv2.absdiff(before, moved).astype(np.float32).mean(-1)
    return np.asarray(cv2.blur(off, (_PATCH, _PATCH)), np.float32)


class OpticalFlow:
    """Optical flow as supervision of every sentence of a data set. It needs no run.

    Args:
        reader: gives the videos.
        window: see :func:`optical_flow`.
    """

    def __init__(self, reader: DatasetReader, window: int) -> None:
        self._reader, self._window = reader, window
        self._flows: LRUCache[tuple[str, int], FrameSupervision] = LRUCache(_FLOWS_KEPT)
        self._opened: VideoRef | None = None

    def samples(self) -> Iterator[KnownFrames]:
        """Yields every sample of every video of at least two frames, all frames with weight 1.

        A video that cannot be read is left out with a warning.
        """
        for video_id in self._reader.video_ids():
            yield from unless_broken(self._known(video_id))

    def _known(self, video_id: str) -> Iterator[KnownFrames]:
        length = len(self._reader.video(video_id))
        expressions = self._reader.expressions(video_id)
        weight, anchor = np.ones(length, np.float32), np.zeros(length, np.bool_)
        for item in expressions if length > 1 else ():
            yield KnownFrames(video_id, item.key.expression, weight, anchor)

    def frames(
        self, video_id: str, expression_id: str, indices: Sequence[int]
    ) -> list[FrameSupervision]:
        """Returns the flow of these frames, which is the same for every sentence of the video."""
        return [self._flow(video_id, index) for index in indices]

    def _flow(self, video_id: str, index: int) -> FrameSupervision:
        """Returns the flow to the next frame; for the last frame, minus that to the one before."""
        if (video_id, index) not in self._flows:
            video = self._open(video_id)
            last = index == len(video) - 1
            pair = FrameIndex(index), FrameIndex(index - 1 if last else index + 1)
            before, after = (self._reader.frame(video, each) for each in pair)
            flow = optical_flow(before, after, self._window)
            self._flows[video_id, index] = of_flow(-flow if last else flow)
        return self._flows[video_id, index]

    def _open(self, video_id: str) -> VideoRef:
        """Returns a video. The last one is kept, since opening one reads every frame's header."""
        if self._opened is None or self._opened.id != video_id:
            self._opened = self._reader.video(video_id)
        return self._opened
