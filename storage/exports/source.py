"""What an export reads: masks, the data set they are of, and their quality.

Letters: E expressions, T frames, H W pixels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError, StoreError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex, FrameQuality, VideoRef
from storage.masks import MaskStore
from storage.tables import iter_quality

JPEG_QUALITY = 95
"""Of frames that are no JPEG in the data set."""

Quality = dict[tuple[str, int], FrameQuality]
"""(expression, frame) -> the row of the quality table, of one video."""


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
    """

    store: MaskStore
    reader: DatasetReader
    quality: Path | None = None

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
                f"{self.store.path / video.id}: {len(frames)} frames of {size[0]} x {size[1]}"
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
    """Quality rows of one video after the other; asked for in sorted order, as exports go.

    Args:
        path: the quality table, its videos in sorted order; None for no rows at all.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        rows: Iterator[FrameQuality] = iter(())
        if path is not None and path.exists():
            rows = iter_quality(path)
        self._groups = groupby(rows, lambda row: row.video)
        self._head: tuple[str, Quality] | None = None
        self._advance()

    def of(self, video_id: str) -> Quality:
        """The rows of a video; empty where the table has none.

        Raises:
            StoreError: the table is damaged, or its videos are not in order.
        """
        while self._head is not None and self._head[0] < video_id:
            self._advance()
        if self._head is None or self._head[0] != video_id:
            return {}
        return self._head[1]

    def _advance(self) -> None:
        before = None if self._head is None else self._head[0]
        self._head = None
        for video, rows in self._groups:
            if before is not None and video <= before:
                raise StoreError(
                    f"{self._path}: video {video} after {before}; expected the videos in order;"
                    " run merge again"
                )
            self._head = (video, {(row.expression, row.frame): row for row in rows})
            return


def place_frame(reader: DatasetReader, video: VideoRef, index: int, out: Path) -> None:
    """A frame as a JPEG at a path: a hard link where that can be, else a copy.

    Frames that are no JPEG (PNG folders, clips) are decoded and saved as one.
    """
    source = video.paths[index]
    if source.suffix.lower() not in (".jpg", ".jpeg"):
        image = Image.fromarray(reader.frame(video, FrameIndex(index)))
        image.save(out, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        return
    try:
        os.link(source.resolve(), out)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, out)
