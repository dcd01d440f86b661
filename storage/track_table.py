"""Reads and writes the tracks of a shard: ``track/<shard>.parquet`` (``docs/format.md``)."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.types import Tracks
from storage.files.atomic import replace_file
from storage.tables import WRITING, footer, open_table, table_entries

TRACK_SCHEMA = pa.schema(
    [
        ("video", pa.dictionary(pa.int32(), pa.string())),
        ("frame", pa.int32()),
        ("candidate", pa.int32()),
        ("track", pa.int32()),
    ]
)
"""One row per candidate, ordered by video, frame, candidate; one row group per video. ``track`` is
-1 for a candidate of no track."""


class TrackWriter:
    """Writes the tracks of a shard, one video at a time. The file appears when the block ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._videos: dict[str, dict[str, int | None]] = {}
        self._groups = 0

    def __enter__(self) -> TrackWriter:
        file = self._stack.enter_context(replace_file(self._path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(file, TRACK_SCHEMA, **WRITING))
        return self

    def write_video(self, video_id: str, tracks: Tracks) -> None:
        """Adds a video, which is not yet in this table."""
        if video_id in self._videos:
            raise ValueError(f"video {video_id}: written twice")
        lengths = [len(item) for item in tracks.of_candidate]
        rows = sum(lengths)
        group = self._groups if rows else None
        self._videos[video_id] = {"frames": len(lengths), "row_group": group}
        if not rows:
            return
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [video_id]),
            np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            np.concatenate(tracks.of_candidate),
        ]
        table = pa.Table.from_arrays(columns, schema=TRACK_SCHEMA)
        self._writer.write_table(table, row_group_size=rows)
        self._groups += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._writer.add_key_value_metadata(footer("track", {"videos": self._videos}))
        self._stack.__exit__(kind, error, trace)


def read_tracks(path: Path, video_id: str) -> Tracks:
    """Returns the tracks of a video.

    Raises:
        StoreError: the table is missing, damaged or newer, or does not hold the video.
    """
    with open_table(path, "track") as file:
        entry: dict[str, Any] = table_entries(file).get(video_id, {})
        if not entry:
            raise StoreError(f"{path}: no video {video_id}; expected its tracks; run track again")
        group, frames = entry["row_group"], int(entry["frames"])
        table = TRACK_SCHEMA.empty_table() if group is None else file.read_row_group(group)
        frame, track = table["frame"].to_numpy(), table["track"].to_numpy()
        bounds = np.searchsorted(frame, np.arange(frames + 1))
        return Tracks(tuple(np.split(track, bounds[1:-1]) if frames else ()))
