"""One video file: a scan of its packets, then frames by their index.

A frame's index counts the frames that a player shows, from 0. Frames with one time stamp count as
one, the first. Letters: H W pixels.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.errors import InputError
from storage.files import images
from storage.files.regular import check_regular
from storage.files.turning import Turn, turn_of_matrix

SUFFIXES = frozenset({".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm"})
"""Of video files, in lower case."""

_TELLS_REFERENCES = frozenset({"h264"})
"""Codecs whose packets say reliably whether another frame is made from theirs. In HEVC, a frame
that says no can still serve frames of a higher layer."""


@dataclass(frozen=True, eq=False)
class ClipInfo:
    """The frames of a file.

    Attributes:
        frames: number of frames.
        height: of the frames, pixels, upright.
        width: of the frames, pixels, upright.
        times: float64 [frames], when each is shown, seconds after the first.
    """

    frames: int
    height: int
    width: int
    times: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scan:
    """What the packets and the first frame of a file say.

    Attributes:
        stamps: int64 [frames], the time stamp of each frame, ascending.
        keys: indices of key frames, ascending.
        counted: whether the file's own stamps say nothing, so that these are made up.
        turn: how its frames are turned upright.
        info: number, size and times of the frames.
    """

    stamps: NDArray[np.int64]
    keys: list[int]
    counted: bool
    turn: Turn
    info: ClipInfo


class Clip:
    """One open file. A scan of its packets, which decodes nothing, gives times and key frames.

    Frames are told apart by their time stamps. Where a file lacks some, or is an AVI whose frames
    are stored in another order than they are shown, its stamps say nothing: then its frames are
    counted as they are decoded, and looking back starts from the first.
    """

    def __init__(self, path: Path, scan: Scan | None = None) -> None:
        self._path = path
        self._count = 0
        self._decoded: Iterator[Any] = iter(())
        self._held: Any = None
        self._wanted = -math.inf
        self._open()
        try:
            self.scan = self._scanned() if scan is None else scan
        except av.error.FFmpegError as error:
            raise self._broken(f"not readable as a video ({error})") from error
        # The first frame asked for is sought.
        self._next = self.scan.info.frames

    def frame(self, index: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        if not 0 <= index < self.scan.info.frames:
            raise self._broken(f"{self.scan.info.frames} frames, so no frame {index}")
        if not self.scan.counted:
            self._wanted = int(self.scan.stamps[index])
        try:
            if self._is_near(index):
                try:
                    return self._forward_to(index, size)
                except av.error.FFmpegError:
                    # A frame before it may be at fault; from the key frame on it may decode.
                    pass
            self._start_at(index)
            return self._forward_to(index, size)
        except av.error.FFmpegError as error:
            # A decoder that has failed gives no more: the next frame asked for is sought anew.
            self._next = self.scan.info.frames
            raise self._broken(f"frame {index} does not decode ({error})") from error

    def close(self) -> None:
        self._container.close()

    def _open(self) -> None:
        try:
            if check_regular(self._path, "a video file") == 0:
                raise self._broken("0 bytes")
            self._container = av.open(str(self._path))
        except FileNotFoundError as error:
            raise self._broken("no such file", missing=True) from error
        except InputError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._broken(f"not readable as a video ({error})") from error
        # The cover of a song is a stream of pictures too.
        videos = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not videos:
            audio = " (audio alone)" if self._container.streams.audio else ""
            raise self._broken(f"no video stream{audio}")
        self._stream = videos[0]

    def _checked_size(self) -> tuple[int, int]:
        context, most = self._stream.codec_context, images.MAX_PIXELS
        if not 0 < context.height * context.width <= most:
            raise InputError(
                self._path,
                f"frames of {context.height} x {context.width} pixels (height x width)",
                f"a video file with frames of at most {most:,} pixels",
                "scale the video down, or restore the file",
            )
        return context.height, context.width

    def _scanned(self) -> Scan:
        size = self._checked_size()
        stamps, keys, counted = self._packets()
        if counted:
            stamps, keys = self._counted_stamps(), [0]
        if not len(stamps):
            raise self._broken("no frames")
        base = float(self._stream.time_base or 1)
        turn = self._first_turn()
        info = ClipInfo(len(stamps), *turn.size(*size), base * (stamps - stamps[0]))
        return Scan(stamps, keys, counted, turn, info)

    def _packets(self) -> tuple[NDArray[np.int64], list[int], bool]:
        """The stamps of the frames, the indices of key frames, and whether the stamps say
        nothing."""
        found, keys = [], []
        lacking = False
        is_vp8 = self._stream.codec_context.name == "vp8"
        for packet in self._container.demux(self._stream):
            # Packets that are marked to be discarded lie before the point where a cut clip begins;
            # VP8 stores frames that others refer to and that are not shown.
            if packet.is_discard or not packet.size or (is_vp8 and not bytes(packet)[0] & 0x10):
                continue
            if packet.pts is None:
                lacking = True
                continue
            found.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        reordered = bool(self._stream.codec_context.has_b_frames)
        counted = lacking or (reordered and self._container.format.name == "avi")
        stamps = np.unique(np.array(found, np.int64))
        return stamps, np.unique(np.searchsorted(stamps, keys)).tolist(), counted

    def _counted_stamps(self) -> NDArray[np.int64]:
        """Evenly spaced stamps for all frames that decode."""
        self._reopen()
        frames = sum(1 for _ in self._container.decode(self._stream))
        rate, base = self._stream.average_rate, self._stream.time_base
        step = 1 / float(rate * base) if rate and base else 1.0
        return np.round(np.arange(frames) * step).astype(np.int64)

    def _is_near(self, index: int) -> bool:
        """Whether decoding on comes to a frame, and no key frame between is nearer to it."""
        return self._next <= index and self._key_before(index) <= self._next

    def _key_before(self, index: int) -> int:
        keys = self.scan.keys
        place = bisect_right(keys, index) - 1
        return keys[place] if place >= 0 else 0

    def _forward_to(self, index: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """Decodes up to a frame. Raises InputError where it is not there, FFmpegError as it is."""
        self._next = index + 1
        while (frame := self._decode()) is not None:
            place = self._place_of(frame)
            if place < index:
                continue
            if place > index:
                # It is another frame's turn, later, and it must not take this one's place.
                self._hold(frame)
                raise self._broken(f"frame {index} does not decode")
            return self._image(frame, size)
        raise self._broken(f"ends before frame {index}")

    def _image(self, frame: Any, size: tuple[int, int] | None) -> NDArray[np.uint8]:
        """The pixels, upright. Frames of a size of their own are scaled, as players do."""
        height, width = self.scan.turn.size(
            *(size or (self.scan.info.height, self.scan.info.width))
        )
        same = (frame.height, frame.width) == (height, width)
        scaling = {} if same else {"height": height, "width": width, "interpolation": "AREA"}
        image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", **scaling)
        return self.scan.turn.of(image) if self.scan.turn else image

    def _place_of(self, frame: Any) -> int:
        """The index of a frame that was decoded; -1 for one that is not shown."""
        if self.scan.counted:
            self._count += 1
            return self._count - 1
        if frame.pts is None:
            return -1
        stamps = self.scan.stamps
        place = int(np.searchsorted(stamps, frame.pts))
        if place < len(stamps) and stamps[place] == frame.pts:
            return place
        return -1 if place < self._next else place

    def _start_at(self, index: int) -> None:
        """Decodes from the key frame at or before a frame."""
        if not self.scan.counted:
            key = int(self.scan.stamps[self._key_before(index)])
            self._container.seek(key, stream=self._stream)
            self._restart(index)
            if not self._is_late(key, index):
                return
        self._reopen()
        self._restart(index)

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _is_late(self, key: int, index: int) -> bool:
        """Whether a search for a key frame ended behind a frame, as in a file without an index."""
        try:
            frame = self._decode()
        except av.error.FFmpegError:
            # It is said when its turn comes.
            self._container.seek(key, stream=self._stream)
            self._restart(index)
            return False
        if frame is None or frame.pts is None or frame.pts > self.scan.stamps[index]:
            return True
        self._held = frame
        return False

    def _restart(self, index: int) -> None:
        self._decoded = self._frames()
        self._held = None
        self._next, self._count = index, 0

    def _hold(self, frame: Any) -> None:
        """Keeps a frame to be the next one."""
        self._held = frame
        self._count -= 1 if self.scan.counted else 0

    def _decode(self) -> Any:
        """The next frame; None at the end."""
        frame, self._held = self._held, None
        return next(self._decoded, None) if frame is None else frame

    def _frames(self) -> Iterator[Any]:
        """Frames from here on. On the way to the wanted one, those that no other frame is made from
        are left out, which is about half of the work."""
        context = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            if context.name in _TELLS_REFERENCES:
                early = packet.pts is not None and packet.pts < self._wanted
                context.skip_frame = "NONREF" if early else "DEFAULT"
            yield from packet.decode()

    def _first_turn(self) -> Turn:
        """How the first frame is to be turned; no turn where it does not decode, which is said when
        it is asked for."""
        self._reopen()
        try:
            frame: Any = next(iter(self._container.decode(self._stream)), None)
        except av.error.FFmpegError:
            frame = None
        # By name: what iteration over the side data gives depends on the version of PyAV.
        matrix = None if frame is None else frame.side_data.get("DISPLAYMATRIX")
        return Turn() if matrix is None else turn_of_matrix(bytes(matrix))

    def _broken(self, found: str, missing: bool = False) -> InputError:
        expected = f"a video file ({', '.join(sorted(s[1:] for s in SUFFIXES))}) with a picture"
        remedy = "restore the file"
        return InputError(self._path, found, expected, remedy, missing=missing)
