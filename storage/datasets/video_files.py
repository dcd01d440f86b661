"""Video files, decoded by frame index straight from the file. Letters: H W pixels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from storage.datasets.video_clip import Clip, ClipInfo, Scan

_OPEN_PIXELS = 33_000_000
"""Pixels of a frame, summed over the clips that are open. A decoder holds some tens of frames: this
is 16 clips in high definition, or one of 8K, and about a gigabyte."""

_LEAST_PIXELS = 1_000_000
"""That a clip counts, so that few files are open."""

_KNOWN_FRAMES = 4_000_000
"""Frames of clips whose scans are kept, which makes it fast to open one again: 64 MB."""


_Place = tuple[Path, int, int]
"""A path, and the time of change and the size of the file there."""


class _OpenClips(LRUCache[Path, Clip]):
    """Clips by their path; the one that was not used for longest is closed to make room."""

    def __init__(self) -> None:
        super().__init__(_OPEN_PIXELS, _pixels)

    def popitem(self) -> tuple[Path, Clip]:
        path, clip = super().popitem()
        clip.close()
        return path, clip


def _pixels(clip: Clip) -> int:
    pixels = clip.scan.info.height * clip.scan.info.width
    return min(max(pixels, _LEAST_PIXELS), _OPEN_PIXELS)


class ClipCache:
    """The last few clips, open. Frames asked for in order are decoded once each.

    A decoder serves one thread at a time; several may ask.
    """

    def __init__(self) -> None:
        self._clips = _OpenClips()
        self._scans: LRUCache[_Place, Scan] = LRUCache(_KNOWN_FRAMES, lambda scan: scan.info.frames)
        self._lock = threading.Lock()

    def info(self, path: Path) -> ClipInfo:
        """Size, number and times of the frames; packets are read, and one frame is decoded.

        Raises:
            InputError: the file is missing or broken, has no picture, or its frames are too large.
        """
        with self._lock:
            return self._clip(path).scan.info

    def frame(
        self, path: Path, index: int, size: tuple[int, int] | None = None
    ) -> NDArray[np.uint8]:
        """One frame as RGB uint8 [H, W, 3], turned upright as the container says.

        Args:
            path: the file.
            index: of the frame.
            size: (H, W) to scale it to; None for its own size.

        Raises:
            InputError: the file is missing or broken, ends before the frame, or the frame does not
                decode.
        """
        with self._lock:
            return self._clip(path).frame(index, size)

    def __getstate__(self) -> dict[str, Any]:
        # Neither decoders nor locks travel to other processes.
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def _clip(self, path: Path) -> Clip:
        if path not in self._clips:
            try:
                found = path.stat()
            except OSError:
                return Clip(path)  # It raises the error.
            place = (path, found.st_mtime_ns, found.st_size)
            self._clips[path] = clip = Clip(path, self._scans.get(place))
            if clip.scan.info.frames < _KNOWN_FRAMES:
                self._scans[place] = clip.scan
        return self._clips[path]
