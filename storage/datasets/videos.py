"""``videos``: your own videos and sentences about them.

::

    <root>/expressions.csv, .tsv, .jsonl or .json    one of them: video, text, and if wanted
                                                     expression_id, start, end, frame, box
    <root>/**/<video>.mp4, .mov, .avi, .mkv, .webm or .gif
    <root>/**/<video>/<frame>.jpg or .png            a folder of frames

``video`` is a path relative to the root, with or without suffix. ``start`` and ``end`` are seconds
after the first frame of a video file, and positions of frames, from 0, of a folder. Rows of a video
with the same start and end are one clip; each other part is a clip of its own, whose id ends in
``@<start>-<end>``. ``frame`` and ``box`` ("x0 y0 x1 y1" in pixels of the upright frame) give the
target's box on one frame; rows of one ``expression_id`` give several.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.ports import Image
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.expression_rows import Row, row_problem
from storage.datasets.files import is_folder, status
from storage.datasets.frame_sampling import picked, scaled, within
from storage.datasets.frames import video_from_folder
from storage.datasets.sentences import checked_sentence, expression_order
from storage.datasets.video_clip import SUFFIXES
from storage.datasets.video_files import ClipCache
from storage.datasets.video_table import VideoClip, clips_of, find_table
from storage.files.images import image_size, read_image
from storage.files.names import safe_name


class Videos(MaskedReader):
    """Reader of video files and folders of frames, with a table of sentences.

    It has no ground truth masks. A row that is wrong raises an error when the expressions of its
    video are asked for, and a video that is not there when it is asked for.

    Args:
        root: holds the table and the videos.
        split: ``train``, the only one.
        links: as of :class:`MaskedReader`.
        frames_per_second: frames that are taken of a second of a video file; None for all.
        max_size: longest side of the frames, pixels; None for the size that they have.

    Raises:
        InputError: there is no table, or two, or it cannot be read.
    """

    in_order = True  # Frames come out of video files.

    def __init__(
        self,
        root: Path,
        split: str,
        links: Links = "follow",
        frames_per_second: float | None = None,
        max_size: float | None = None,
    ) -> None:
        super().__init__("videos", root, split, links)
        self._rate, self._max_size = frames_per_second, max_size
        self._table = self.checked(find_table(root))
        if split != "train":
            raise InputError(root, f"split {split!r}", "train, the only one", "leave --split out")
        self._cache = ClipCache()
        self._clips = clips_of(root, self._table)
        self._ids = tuple(sorted(self._clips))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order: the path without suffix, with ``--`` for ``/``."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """The frames that are taken. Those of a video file are named by their index in it."""
        clip = self._clip(video_id)
        path = self.checked(clip.path)
        if status(path, "a video") is None:
            row = clip.rows[0]
            raise row.problem or InputError(
                self._table,
                f"row {row.number} names the video {row.video!r}, and {path} is not there",
                "a video file or a folder of frames in the folder of the table",
                "fix the path in the row, or restore the video",
                missing=True,
            )
        return self._file(video_id, clip) if clip.is_file else self._folder(video_id, clip)

    def sources(self, video_id: str) -> VideoSources:
        """The video file, or the folder of frames; the table, if it has boxes of the video."""
        clip = self._clip(video_id)
        has_boxes = any(row.box is not None for row in clip.rows)
        return VideoSources((), (clip.path,), (self._table,) if has_boxes else ())

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The sentences of a clip. Raises InputError if one of its rows is wrong."""
        found = [
            Expression(
                SampleKey(self.name, self.split, video_id, name),
                checked_sentence(rows[0].text, self._table, f"row {rows[0].number}: the text"),
            )
            for name, rows in self._named(video_id).items()
        ]
        return sorted(found, key=lambda item: expression_order(item.key.expression))

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """One decoded frame, scaled down if ``max_size`` asks for it."""
        path, size = video.paths[index], (video.height, video.width)
        if path.suffix.lower() in SUFFIXES:
            return self._cache.frame(path, int(video.frames[index]), size)
        if self._max_size is None:
            return read_image(path, size)
        picture = read_image(path)
        if scaled(picture.shape[:2], self._max_size) != size:
            found = f"{picture.shape[0]} x {picture.shape[1]} pixels (height x width)"
            raise InputError(path, found, "the size of the first frame", "give all one size")
        if picture.shape[:2] == size:
            return picture
        small = Picture.fromarray(picture).resize(size[::-1], Picture.Resampling.BOX)
        return np.asarray(small, np.uint8)

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """None: there is no ground truth."""
        return None

    def boxes(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.float32] | None:
        """The boxes that rows give for a frame; None where they give none."""
        path, name = video.paths[index], video.frames[index]
        rows = self._named(video.id)[expression.key.expression]
        mine = [row for row in rows if row.frame is not None and _frame_name(row, video) == name]
        if not mine:
            return None
        is_file = path.suffix.lower() in SUFFIXES
        info = self._cache.info(path) if is_file else None
        height, width = (info.height, info.width) if info is not None else image_size(path)
        scale = np.array([video.width / width, video.height / height] * 2)
        boxes = np.array([row.box for row in mine]) * scale
        boxes = np.clip(boxes, 0, [video.width, video.height] * 2)
        for row, box in zip(mine, boxes, strict=True):
            if not (box[:2] < box[2:]).all():
                expected = f"a box within its {height} x {width} pixels (height x width)"
                raise row_problem(
                    self._table, row.number, f"box outside frame {name}", expected, "fix the row"
                )
        return np.asarray(boxes, np.float32)

    def _clip(self, video_id: str) -> VideoClip:
        if video_id not in self._clips:
            expected = f"one of the {len(self._ids)} videos of its rows"
            raise InputError(self._table, f"no video {video_id!r}", expected, "check the id")
        return self._clips[video_id]

    def _named(self, video_id: str) -> dict[str, list[Row]]:
        """Expression id -> its rows, of which several only give boxes. Raises InputError."""
        named: dict[str, list[Row]] = {}
        unnamed = 0
        for row in self._clip(video_id).rows:
            if row.problem is not None:
                raise row.problem
            name = row.expression_id
            if name is None:
                name, unnamed = str(unnamed), unnamed + 1
            safe_name(name, self._table, f"expression_id of row {row.number},")
            known = named.setdefault(name, [])
            known.append(row)
            if len(known) > 1 and (row.frame is None or row.text != known[0].text):
                raise row_problem(
                    self._table,
                    row.number,
                    f"expression_id {name!r} of {row.video!r} is that of row {known[0].number} too",
                    "an id once a video; more rows only for more boxes of the same text",
                    "give every row of the video an expression_id of its own, or none",
                )
        return named

    def _file(self, video_id: str, clip: VideoClip) -> VideoRef:
        info = self._cache.info(clip.path)
        times = info.times
        chosen = picked(times, clip.start or 0.0, clip.end, self._rate)
        wanted = [row for row in clip.rows if row.frame is not None]
        inside = np.flatnonzero(within(times, clip.start or 0.0, clip.end))
        for row in wanted:
            if not (str(row.frame).isdecimal() and int(str(row.frame)) in inside):
                raise self._no_frame(row, f"the index of a frame, 0 to {info.frames - 1}")
            chosen.add(int(str(row.frame)))
        if not chosen:
            raise self._empty_part(clip, f"the video has {times[-1]:.2f} s")
        digits = max(5, len(str(info.frames - 1)))
        order = sorted(chosen)
        seconds = times[order] - times[order[0]]
        return VideoRef(
            video_id,
            tuple(f"{index:0{digits}d}" for index in order),
            (clip.path,) * len(order),
            *scaled((info.height, info.width), self._max_size),
            times=tuple(seconds.tolist()),
        )

    def _folder(self, video_id: str, clip: VideoClip) -> VideoRef:
        if not is_folder(clip.path, "a folder of frames"):
            found = f"a file with the suffix {clip.path.suffix or '(none)'!r}"
            expected = f"one of {', '.join(sorted(SUFFIXES))}, or a folder of frames"
            raise InputError(clip.path, found, expected, "convert the video, or fix the row")
        whole = video_from_folder(video_id, clip.path, self.within(clip.path))
        inside = within(np.arange(len(whole)), clip.start or 0.0, clip.end)
        order = np.flatnonzero(inside).tolist()
        if not order:
            raise self._empty_part(clip, f"the folder has {len(whole)} frames")
        names = tuple(whole.frames[index] for index in order)
        for row in clip.rows:
            if row.frame is not None and row.frame not in names:
                raise self._no_frame(row, f"the name of a frame, such as {names[0]}")
        paths = tuple(whole.paths[index] for index in order)
        return VideoRef(
            video_id, names, paths, *scaled((whole.height, whole.width), self._max_size)
        )

    def _no_frame(self, row: Row, expected: str) -> InputError:
        found = f"frame {row.frame!r}, which is not in this part of {row.video!r}"
        return row_problem(self._table, row.number, found, expected, "fix the row")

    def _empty_part(self, clip: VideoClip, found: str) -> InputError:
        row = clip.rows[0]
        part = f"no frame from start {clip.start or 0:g} to end {clip.end or 'end'}"
        return row_problem(
            self._table, row.number, f"{part}; {found}", "a part with frames", "fix start and end"
        )


def _frame_name(row: Row, video: VideoRef) -> str:
    """The name of a row's frame, as the video names its frames."""
    name = str(row.frame)
    if video.paths[0].suffix.lower() in SUFFIXES and name.isdecimal():
        return f"{int(name):0{len(video.frames[0])}d}"
    return name
