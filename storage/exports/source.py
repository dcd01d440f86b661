"""What an export reads: masks, the data set they are of, and their quality.

Letters: E expressions, T frames, H W pixels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError, StoreError
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
class ExportSource:
    """Masks to export.

    Attributes:
        store: the masks; those of a run, of the student or of another method.
        reader: the data set and split that they are of.
        quality: the quality table that goes with them; None where there is none.
        warning: what everybody who looks at the masks should know, one sentence; empty for nothing.
    """

    store: MaskStore
    reader: DatasetReader
    quality: Path | None = None
    warning: str = ""

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


def place_frame(reader: DatasetReader, video: VideoRef, index: int, out: Path) -> None:
    """A frame as a JPEG at a path: a hard link where that can be, else a copy.

    Frames that are no JPEG (PNG folders, clips), and those that a tag says to turn, are decoded and
    saved as one without a tag: programs differ in whether they heed it.
    """
    source = video.paths[index]
    if source.suffix.lower() not in (".jpg", ".jpeg") or not is_upright_jpeg(source):
        image = Image.fromarray(reader.frame(video, FrameIndex(index)))
        image.save(out, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        return
    try:
        os.link(source.resolve(), out)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, out)
