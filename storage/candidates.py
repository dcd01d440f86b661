"""Candidate masks of a shard: ``segment/<shard>.zarr`` (``docs/format.md``).

A group a video. Letters: T frames, Q masks of the video over all its frames, n boxes asked for,
h w cells of a low-resolution mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.types import Candidates
from storage.atomic import explain_disk_errors
from storage.names import safe_name
from storage.zarr_groups import (
    ShardStoreWriter,
    child_group,
    explain_damage,
    open_group,
    read_array,
    write_array,
)

FORMAT = "pseudolabels.candidates"
FORMAT_VERSION = 1

_CHUNK_ROWS = 64


class CandidateWriter(ShardStoreWriter):
    """Writes the candidates of a shard, a video at a time."""

    kind = FORMAT
    version = FORMAT_VERSION

    def write_video(self, video_id: str, candidates: Sequence[Candidates]) -> None:
        """Adds a video: the candidates of each of its T frames; any of them may be empty."""
        safe_name(video_id, self._path, "video id")
        sizes = np.array([len(frame) for frame in candidates], dtype=np.int32)
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        rows = [
            frame.box_row.astype(np.int32) + start
            for frame, start in zip(candidates, starts, strict=False)
        ]
        box_count = np.array([len(frame_rows) for frame_rows in rows], dtype=np.int32)
        with explain_disk_errors(self._path):
            group = self._group.create_group(video_id)
            write_array(group, "logits", _logits(candidates), _CHUNK_ROWS)
            write_array(group, "frame", np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
            write_array(group, "box_count", box_count)
            write_array(group, "box_row", _joined(rows, np.dtype(np.int32)))
            for name in ("predicted_iou", "stability"):
                values = [getattr(frame, name) for frame in candidates]
                write_array(group, name, _joined(values, np.dtype(np.float32)))


def read_candidates(path: Path, video_id: str) -> list[Candidates]:
    """The candidates of each frame of a video.

    Raises:
        StoreError: the store or the video is missing, damaged or newer.
    """
    with explain_damage(f"{path}/{video_id}"):
        return _read(path, video_id)


def _read(path: Path, video_id: str) -> list[Candidates]:
    store = open_group(path, FORMAT, FORMAT_VERSION)
    group = child_group(store, video_id)
    if group is None:
        raise StoreError(f"{path}: no video {video_id}; expected its candidates; run segment again")
    logits = read_array(group, "logits", np.float16)
    frame = read_array(group, "frame", np.int32)
    predicted_iou = read_array(group, "predicted_iou", np.float32)
    stability = read_array(group, "stability", np.float32)
    box_count = read_array(group, "box_count", np.int32)
    box_row = read_array(group, "box_row", np.int32)
    starts = np.searchsorted(frame, np.arange(len(box_count) + 1)).tolist()
    box_starts = np.concatenate([[0], np.cumsum(box_count)]).tolist()
    return [
        Candidates(
            logits=logits[low:high],
            predicted_iou=predicted_iou[low:high],
            stability=stability[low:high],
            box_row=box_row[box_low:box_high] - np.int32(low),
        )
        for (low, high), (box_low, box_high) in zip(
            pairwise(starts), pairwise(box_starts), strict=True
        )
    ]


def _logits(candidates: Sequence[Candidates]) -> NDArray[np.float16]:
    """All logits of the video [Q, h, w]; frames without a mask may not know h and w."""
    filled = [frame.logits for frame in candidates if len(frame)]
    if not filled:
        return np.zeros((0, 1, 1), dtype=np.float16)
    return np.concatenate(filled).astype(np.float16, copy=False)


def _joined(
    arrays: Sequence[NDArray[np.generic]], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    if not arrays:
        return np.zeros(0, dtype=dtype)
    return np.concatenate(arrays).astype(dtype, copy=False)
