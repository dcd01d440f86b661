"""Export to WebDataset: tar files that are read from the first byte to the last.

::

    <out>/<split>-000000.tar
        000000000.jpg            a frame
        000000000.mask0.png      the mask of its first target; 255 inside and 0 outside
        000000000.json           video, frame, and the targets in order: sentence, weight, status
    <out>/export.json            says that this is an export

A sample is a frame of a video with all its sentences. A target without a mask (absent or unknown,
see ``status``: 0 unknown, 1 present, 2 absent) has no PNG, and ``mask`` is null.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.types import VideoRef
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport, ExportSource, frame_jpeg
from storage.files.images import png_of

SHARD_BYTES = 500_000_000
"""After this many bytes, the next frame begins another tar."""


def export_webdataset(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report, split = ExportReport(), re.sub(r"\W+", "_", source.reader.split)
    with export_folder(out, "webdataset") as folder:
        shards = _Shards(folder, split)
        for video in source.videos(report):
            for frame in range(len(video)):
                shards.add(list(_files(source, video, frame)))
            report.add("videos")
            report.add("samples", len(video))
        shards.close()
        report.add("shards", shards.number)
    return report


class _Shards:
    """Tar files of limited size.

    Args:
        folder: that holds them.
        split: first part of their names.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._tar: tarfile.TarFile | None = None
        self._bytes = self._samples = self.number = 0

    def add(self, files: list[tuple[str, bytes]]) -> None:
        """Adds the files of a sample, (suffix, content) each."""
        if self._tar is None or self._bytes >= SHARD_BYTES:
            self.close()
            path = self._folder / f"{self._split}-{self.number:06}.tar"
            self._tar, self._bytes = tarfile.open(path, "w"), 0  # noqa: SIM115 - closed by close
            self.number += 1
        for suffix, content in files:
            # Without a time: equal masks make equal files.
            entry = tarfile.TarInfo(f"{self._samples:09}.{suffix}")
            entry.size = len(content)
            self._tar.addfile(entry, io.BytesIO(content))
            self._bytes += len(content)
        self._samples += 1

    def close(self) -> None:
        """Ends the tar that is open."""
        if self._tar is not None:
            self._tar.close()
        self._tar = None


def _files(source: ExportSource, video: VideoRef, frame: int) -> Iterator[tuple[str, bytes]]:
    yield "jpg", frame_jpeg(source.reader, video, frame)
    targets: list[dict[str, Any]] = []
    for number, target in enumerate(source.targets(video.id, frame)):
        name = f"mask{number}.png" if target.shown else None
        if name is not None:
            yield name, png_of(target.mask)
        targets.append(
            {
                "expression": target.expression,
                "text": target.text,
                "mask": name,
                "weight": round(target.weight, 6),
                "status": target.status,
            }
        )
    about = {
        "dataset": source.reader.name,
        "split": source.reader.split,
        "video": video.id,
        "frame": frame,
        "frame_name": video.frames[frame],
        "height": video.height,
        "width": video.width,
        "targets": targets,
    }
    if source.warning:
        about["warning"] = source.warning
    yield "json", json.dumps(about, ensure_ascii=False).encode()
