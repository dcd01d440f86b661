"""Video files, decoded by frame index straight from the file.

Letters: H W pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.errors import InputError
from storage.files.images import MAX_PIXELS
from storage.files.regular import check_regular
from storage.files.turning import Turn, turn_of_matrix

_OPEN_CLIPS = 4


@dataclass(frozen=True)
class ClipInfo:
    """What the container says: frames, and their size in pixels, upright."""

    frames: int
    height: int
    width: int


class _OpenClips(LRUCache[Path, "_Clip"]):
    """Clips by their path; the one that was not used for longest is closed to make room."""

    def popitem(self) -> tuple[Path, _Clip]:
        path, clip = super().popitem()
        clip.close()
        return path, clip


class ClipCache:
    """The last few clips, open. Frames asked for in order are decoded once each.

    A decoder serves one thread at a time; several may ask.
    """

    def __init__(self) -> None:
        self._clips = _OpenClips(_OPEN_CLIPS)
        self._lock = threading.Lock()

    def info(self, path: Path) -> ClipInfo:
        """Size and number of frames; packets are counted, and one frame is decoded."""
        with self._lock:
            return self._clip(path).info

    def frame(self, path: Path, index: int) -> NDArray[np.uint8]:
        """One frame as RGB uint8 [H, W, 3], turned upright as the container says.

        Raises:
            InputError: the file is missing or broken, ends before the frame, or the frame does not
                decode.
        """
        with self._lock:
            return self._clip(path).frame(index)

    def __getstate__(self) -> dict[str, Any]:
        # Neither decoders nor locks travel to other processes.
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def _clip(self, path: Path) -> _Clip:
        if path not in self._clips:
            self._clips[path] = _Clip(path)
        return self._clips[path]


class _Clip:
    """One open file. Frames are told apart by their time stamps, which packets give cheaply."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next: int = 0
        self._decoded: Iterator[Any] = iter(())
        self._held: Any = None
        try:
            check_regular(path, "a video file")
            self._container = av.open(str(path))
        except FileNotFoundError as error:
            raise self._broken("no such file", missing=True) from error
        except InputError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._broken(f"not readable as a video ({error})") from error
        if not self._container.streams.video:
            raise self._broken("no video stream")
        self._stream = self._container.streams.video[0]
        height, width = self._stream.codec_context.height, self._stream.codec_context.width
        if height * width > MAX_PIXELS:
            raise self._broken(f"frames of {height} x {width} pixels")
        try:
            packets = self._container.demux(self._stream)
            # Packets that are marked to be discarded lie before the point where a cut clip begins.
            shown = (packet for packet in packets if not packet.is_discard)
            self._times = sorted({packet.pts for packet in shown if packet.pts is not None})
            self._start_at(0)
        except av.error.FFmpegError as error:
            raise self._broken(f"not readable as a video ({error})") from error
        self._turn = self._first_turn()
        self.info = ClipInfo(len(self._times), *self._turn.size(height, width))

    def frame(self, index: int) -> NDArray[np.uint8]:
        if not 0 <= index < len(self._times):
            raise self._broken(f"{len(self._times)} frames, so no frame {index}")
        try:
            if index >= self._next:
                try:
                    return self._forward_to(index)
                except av.error.FFmpegError:
                    # A frame before it may be at fault; from the key frame on it may decode.
                    pass
            self._start_at(index)
            return self._forward_to(index)
        except av.error.FFmpegError as error:
            # A decoder that has failed gives no more: the next frame asked for is sought anew.
            self._next = len(self._times)
            raise self._broken(f"frame {index} does not decode ({error})") from error

    def close(self) -> None:
        self._container.close()

    def _forward_to(self, index: int) -> NDArray[np.uint8]:
        """Decodes up to a frame. Raises InputError where it is not there, FFmpegError as it is."""
        time, self._next = self._times[index], index + 1
        while (frame := self._decode()) is not None:
            if frame.pts is None or frame.pts < time:
                continue
            if frame.pts > time:
                # It is another frame's turn, later, and it must not take this one's place.
                self._held = frame
                raise self._broken(f"frame {index} does not decode")
            image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
            return self._turn.of(image) if self._turn else image
        raise self._broken(f"ends before frame {index}")

    def _start_at(self, index: int) -> None:
        """Decodes from the key frame at or before a frame."""
        if self._times:
            self._container.seek(self._times[index], stream=self._stream)
        self._decoded = iter(self._container.decode(self._stream))
        self._held = None
        self._next = index

    def _decode(self) -> Any:
        """The next frame; None at the end."""
        frame, self._held = self._held, None
        return next(self._decoded, None) if frame is None else frame

    def _first_turn(self) -> Turn:
        """How the first frame is to be turned, which stays the next to be had; no turn where it
        does not decode, which is said when it is asked for."""
        try:
            self._held = self._decode()
        except av.error.FFmpegError:
            self._start_at(0)
        sides = () if self._held is None else self._held.side_data
        matrix = [bytes(item) for item in sides if item.type.name == "DISPLAYMATRIX"]
        return turn_of_matrix(matrix[0]) if matrix else Turn()

    def _broken(self, found: str, missing: bool = False) -> InputError:
        remedy = "restore the file"
        return InputError(self._path, found, "a video file", remedy, missing=missing)
