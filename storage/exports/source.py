"""What an export reads: masks, the data set they are of, and their quality.

Letters: E expressions, T frames, H W pixels.
"""

from __future__ import annotations

import errno
import fcntl
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError, StoreError
from pipeline.geometry import masks_to_boxes
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex, FrameQuality, VideoRef
from storage.arrays.masks import MaskStore
from storage.files.images import is_upright_jpeg
from storage.tables import open_table

JPEG_QUALITY = 95
"""Of frames that are no JPEG in the data set."""

Quality = dict[tuple[str, int], FrameQuality]
"""(expression, frame) -> the row of the quality table, of one video."""

_QUALITY_FIELDS = [item.name for item in fields(FrameQuality)]

Link = Literal["copy", "symlink"]
"""``copy`` copies frames, as references to the same blocks where the file system can. ``symlink``
links to the data set's files."""

_Place = tuple[int, int, int]
"""A row group of the table, and the first and the end of a video's rows in it."""


@dataclass
class ExportReport:
    """What an export wrote.

    Attributes:
        counts: figures such as videos, samples, masks.
        notes: what was left out or stands for something missing, a sentence each.
    """

    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Adds to one of the counts."""
        self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True)
class Target:
    """What an expression refers to in one frame.

    Attributes:
        text: the sentence.
        mask: [H, W]; empty unless the status is present.
        weight: in [0, 1].
        status: a value of :class:`pipeline.types.Status`.
    """

    expression: str
    text: str
    mask: NDArray[np.bool_]
    weight: float
    status: int

    @property
    def shown(self) -> bool:
        """Whether the mask has a pixel."""
        return bool(self.mask.any())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height in pixels; zeros for an empty mask."""
        x0, y0, x1, y1 = (int(side) for side in masks_to_boxes(self.mask).tolist())
        return x0, y0, x1 - x0, y1 - y0


class TracksOfVideo(Protocol):
    """The tracks of a video, which its masks were chosen from."""

    def chosen(self, expression: str) -> Sequence[int]:
        """The tracks that an expression takes, best first."""
        ...

    def words(self, expression: str) -> str:
        """What an expression makes of the tracks, for the legend."""
        ...

    def of_interest(self, expressions: Sequence[str]) -> set[int]:
        """The tracks to show for some expressions."""
        ...

    def shown(self, frame: int, only: set[int]) -> tuple[Sequence[int], NDArray[np.bool_]]:
        """The numbers of those tracks that are in a frame, and their masks [n, H, W]."""
        ...


@dataclass(frozen=True)
class ExportSource:
    """Masks to export.

    Attributes:
        store: the masks; those of a run, of the student or of another method.
        reader: the data set and split that they are of.
        quality: the quality table that goes with them; None where there is none.
        warning: what everybody who looks at the masks should know, one sentence; empty for nothing.
        link: how frames get into an export.
        models: what made the masks, such as ``ground`` -> name of its weights.
        metrics: figures of the masks against ground truth, in percent; empty without any.
        tags: (video, expression) -> what people said of it, of samples that they decided about.
    """

    store: MaskStore
    reader: DatasetReader
    quality: Path | None = None
    warning: str = ""
    link: Link = "copy"
    models: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the masks are of, with the warning."""
        title = f"pseudo-masks of {self.reader.name} {self.reader.split}"
        return f"{title}. {self.warning}" if self.warning else title

    def videos(self, report: ExportReport) -> Iterator[VideoRef]:
        """The videos of the store, sorted, opened in the data set.

        One that the data set cannot give is left out, with a note.

        Raises:
            StoreError: the store is empty, or holds other frames than the data set.
        """
        names = self.store.videos()
        if not names:
            raise StoreError(
                f"{self.store.path}: no masks; expected those of a run; make them with"
                " `pseudolabels run`"
            )
        for name in names:
            try:
                video = self.reader.video(name)
            except InputError as error:
                report.notes.append(f"{name} was left out: {error}")
                continue
            self.check_frames(video)
            yield video

    def check_frames(self, video: VideoRef) -> None:
        """Raises StoreError unless the store has the frames and the size that the video has."""
        frames, size = self.store.frames(video.id), self.store.size(video.id)
        if frames != video.frames or size != (video.height, video.width):
            raise StoreError(
                f"{self.store.place(video.id)}: {len(frames)} frames of {size[0]} x {size[1]}"
                f" pixels; expected the {len(video)} of {video.height} x {video.width} that the"
                " data set has; give the data set that the masks were made for"
            )

    def mask(
        self, video_id: str, expression: str, frame: int
    ) -> tuple[NDArray[np.bool_], float, int]:
        """mask [H, W], weight and status of one frame."""
        mask, weight, status = self.store.read(video_id, expression, [frame])
        return mask[0], float(weight[0]), int(status[0])

    def targets(self, video_id: str, frame: int) -> Iterator[Target]:
        """What each expression of a video refers to in one frame, in the order of the store."""
        texts = self.store.texts(video_id)
        for text, expression in zip(texts, self.store.expressions(video_id), strict=True):
            yield Target(expression, text, *self.mask(video_id, expression, frame))

    def tracks(self, video: VideoRef) -> TracksOfVideo | None:
        """The tracks that the masks of a video were chosen from; None where they are not known.

        Raises:
            StoreError: they are damaged.
        """
        return None

    def quality_by_video(self) -> QualityByVideo:
        """The quality rows, video by video."""
        return QualityByVideo(self.quality)


class QualityByVideo:
    """Quality rows of one video at a time, in whatever order the table has the videos.

    The table is in the order of the shards, so where each video's rows lie is found first; the rows
    themselves are read when asked for, and one row group is held at a time.

    Args:
        path: the quality table; None for no rows at all.

    Raises:
        StoreError: the table is damaged or newer, or has a video's rows in two places.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._places: dict[str, list[_Place]] = {}
        self._held: tuple[int, Any] | None = None
        if path is not None and path.exists():
            self._find_videos(path)

    def of(self, video_id: str) -> Quality:
        """The rows of a video; empty where the table has none.

        Raises:
            StoreError: the table is damaged.
        """
        rows: Quality = {}
        for group, first, end in self._places.get(video_id, ()):
            part = self._row_group(group).slice(first, end - first)
            columns = [part[name].to_pylist() for name in _QUALITY_FIELDS]
            for values in zip(*columns, strict=True):
                row = FrameQuality(*values)
                rows[row.expression, row.frame] = row
        return rows

    def _find_videos(self, path: Path) -> None:
        """Fills the places; of the table only the column of videos is read."""
        before = None
        with open_table(path, "quality") as file:
            for group in range(file.num_row_groups):
                videos = file.read_row_group(group, columns=["video"])["video"]
                runs = pc.run_end_encode(videos.combine_chunks())
                first = 0
                for video, end in zip(
                    runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True
                ):
                    if video != before and video in self._places:
                        raise StoreError(
                            f"{path}: video {video} again after {before}; expected the rows of a"
                            " video in one place; run merge again"
                        )
                    self._places.setdefault(video, []).append((group, first, end))
                    before, first = video, end

    def _row_group(self, group: int) -> Any:
        """A row group as a table; the last one asked for is kept."""
        if self._held is None or self._held[0] != group:
            assert self._path is not None, "a row group is of a table"
            with open_table(self._path, "quality") as file:
                self._held = group, file.read_row_group(group, columns=_QUALITY_FIELDS)
        return self._held[1]


def place_frame(source: ExportSource, video: VideoRef, index: int, out: Path) -> None:
    """Puts a frame at a path as a JPEG: a copy, or with ``symlink`` a link to the data set's file.

    An edit of a copy never changes the data set. Frames that are no JPEG (PNG folders, clips), and
    those that a tag says to turn, are decoded and saved as one without a tag: programs differ in
    whether they heed it.
    """
    path = video.paths[index]
    if not _is_plain_jpeg(path):
        out.write_bytes(frame_jpeg(source.reader, video, index))
    elif source.link == "symlink":
        out.symlink_to(path.resolve())
    else:
        copy_file(path, out)


def frame_jpeg(reader: DatasetReader, video: VideoRef, index: int) -> bytes:
    """Returns a frame as an upright JPEG: the data set's own bytes, if they are one."""
    path = video.paths[index]
    if _is_plain_jpeg(path):
        return path.read_bytes()
    buffer = io.BytesIO()
    image = Image.fromarray(reader.frame(video, FrameIndex(index)))
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def copy_file(path: Path, out: Path) -> None:
    """Copies a file. Where the file system can, the copy shares blocks until one changes."""
    with path.open("rb") as old, out.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            shutil.copyfileobj(old, new, _BLOCK)


_FICLONE = 0x40049409
"""Linux's request to share the blocks of another file."""

_BLOCK = 1 << 20


def _is_plain_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg") and is_upright_jpeg(path)
