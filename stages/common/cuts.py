"""Finds the cuts of a video with PySceneDetect, frame by frame."""

from __future__ import annotations

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from pipeline.ports import Image

LONGEST = 64
"""Longest side of the frames that are compared, pixels: noise of single pixels is averaged out."""

SHORTEST_SHOT = 2
"""Frames."""

_RATE = 10.0
"""The detector counts in time codes; any rate will do."""


class CutFinder:
    """Finds cuts: frames whose colours differ from the frame before by much more than their
    neighbours' do, so that a camera that moves fast makes none.

    Memory does not grow with the video.
    """

    def __init__(self) -> None:
        self._detector = AdaptiveDetector(min_scene_len=SHORTEST_SHOT)
        self._frames = 0
        self._found: list[int] = []

    def add(self, image: Image) -> None:
        """Adds the next frame, uint8 RGB [H, W, 3]."""
        scale = LONGEST / max(image.shape[:2])
        if scale < 1:
            size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        code = FrameTimecode(self._frames, _RATE)
        bgr = np.ascontiguousarray(image[..., ::-1])
        self._take(self._detector.process_frame(code, bgr))
        self._frames += 1

    def finish(self) -> list[int]:
        """Returns the first frame of each shot but the first, ascending."""
        if self._frames:
            self._take(self._detector.post_process(FrameTimecode(self._frames - 1, _RATE)))
        return sorted(set(self._found))

    def _take(self, codes: list[FrameTimecode]) -> None:
        self._found += [code.frame_num for code in codes]
