"""Candidate masks of a shard: ``segment/<shard>.zarr`` (``docs/format.md``).

A group a video. Logits are stored as int8, in steps of ``LOGIT_STEP``, which takes a seventh of
the bytes of float16. A logit within ``LOGIT_LIMIT`` is off by half a step at most. One beyond
becomes the limit, where a pixel is as sure as it can be.

Letters: T frames, Q masks of the video over all its frames, n boxes asked for, h w cells of a
low-resolution mask.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.types import Candidates, CandidateScores
from storage.arrays.zarr_arrays import FOR_LOGITS, StoredArray, write_array
from storage.arrays.zarr_groups import (
    ShardStoreWriter,
    create_group,
    explain_damage,
    group_attributes,
    open_video,
    read_array,
)
from storage.files.atomic import explain_disk_errors
from storage.files.names import safe_name, stored_name

FORMAT = "pseudolabels.candidates"
FORMAT_VERSION = 1

LOGIT_STEP = 0.125
"""Half of it changes a probability by 1.6 points at most."""
LOGIT_LIMIT = 127 * LOGIT_STEP

_STEP = "logit_step"
"""Attribute of a video's group; without it, logits are float16 as they are."""

_CHUNK_ROWS = 64

HELD_BYTES = 128 * 2**20
"""Logits of a video that are kept in memory while they are read frame by frame."""


class CandidateWriter(ShardStoreWriter):
    """Writes the candidates of a shard, a video at a time, each whole or as it comes."""

    kind = FORMAT
    version = FORMAT_VERSION

    def write_video(self, video_id: str, candidates: Sequence[Candidates]) -> None:
        """Adds a video: the candidates of each of its T frames; any of them may be empty."""
        video = self.start_video(video_id)
        video.append(candidates)
        video.finish()

    def start_video(self, video_id: str) -> CandidateStream:
        """Begins a video whose frames come in parts; until it is finished it must not be read."""
        safe_name(video_id, self._path, "video id")
        folder = self._folder / stored_name(video_id)
        with explain_disk_errors(self._path):
            create_group(folder, {_STEP: LOGIT_STEP})
        return CandidateStream(folder, self._path)

    def remove_video(self, video_id: str) -> None:
        """Takes a video out again that was begun."""
        shutil.rmtree(self._folder / stored_name(video_id))


class CandidateStream:
    """One video on its way to the disk; memory holds less than a chunk of its masks' logits."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder, self._path = folder, path
        self._held: list[NDArray[np.float16]] = []
        self._small: list[CandidateScores] = []
        self._masks = self._written = 0

    def append(self, candidates: Sequence[Candidates]) -> None:
        """Adds frames, in their order."""
        for frame in candidates:
            start = np.int32(self._masks)
            rows = frame.box_row.astype(np.int32) + start
            self._small.append(replace(frame.scores, box_row=rows))
            self._masks += len(frame)
            if len(frame):
                self._held.append(frame.logits)
        with explain_disk_errors(self._path):
            self._flush(_CHUNK_ROWS)

    def finish(self) -> None:
        """Writes what is left."""
        sizes = np.array([len(frame.predicted_iou) for frame in self._small], dtype=np.int32)
        rows = [frame.box_row for frame in self._small]
        box_count = np.array([len(frame_rows) for frame_rows in rows], dtype=np.int32)
        with explain_disk_errors(self._path):
            self._flush(1)
            if not self._written:
                empty = np.zeros((0, 1, 1), np.int8)
                write_array(self._folder / "logits", empty, codec=FOR_LOGITS)
            frames = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
            write_array(self._folder / "frame", frames)
            write_array(self._folder / "box_count", box_count)
            write_array(self._folder / "box_row", _joined(rows, np.dtype(np.int32)))
            for name in ("predicted_iou", "stability"):
                values = [getattr(frame, name) for frame in self._small]
                write_array(self._folder / name, _joined(values, np.dtype(np.float32)))

    def _flush(self, multiple: int) -> None:
        """Writes as many of the rows held as make a multiple of a number of rows."""
        count = sum(map(len, self._held)) // multiple * multiple
        if not count:
            return
        rows = np.concatenate(self._held).astype(np.float16, copy=False)
        # A copy, for a view would keep what was written in memory.
        self._held = [rows[count:].copy()] if len(rows) > count else []
        stored = in_steps(rows[:count])
        folder, start = self._folder / "logits", self._written
        write_array(folder, stored, _CHUNK_ROWS, start=start, codec=FOR_LOGITS)
        self._written += count


def in_steps(logits: NDArray[np.float16]) -> NDArray[np.int8]:
    """Returns logits as the nearest number of steps, from -127 to 127."""
    steps = np.rint(logits.astype(np.float32) / LOGIT_STEP)
    stored: NDArray[np.int8] = np.clip(steps, -127, 127).astype(np.int8)
    return stored


def read_candidates(path: Path, video_id: str) -> list[Candidates]:
    """The candidates of each frame of a video.

    Raises:
        StoreError: the store or the video is missing, damaged or newer.
    """
    with explain_damage(f"{path}/{video_id}"):
        video = _open_video(path, video_id)
        stored = StoredLogits(video)
        logits = stored.values(stored.array.read())
        return [
            Candidates(logits[part], *_values(scores)) for part, scores in _without_logits(video)
        ]


class StoredLogits:
    """The logits of a video: their array, and what a stored number stands for.

    Args:
        video: the folder of its group.

    Raises:
        StoreError: the group's document is missing or damaged, or logits are of another type.
    """

    def __init__(self, video: Path) -> None:
        self.array = StoredArray(video / "logits")
        self._step: float | None = group_attributes(video).get(_STEP)
        expected = np.float16 if self._step is None else np.int8
        if self.array.dtype != expected:
            found = f"{video / 'logits'}: {self.array.dtype}; expected {np.dtype(expected)}"
            raise StoreError(f"{found}; run again")

    def values(self, stored: NDArray[Any]) -> NDArray[np.float16]:
        """Returns the logits of rows as they are stored. Steps are exact in float16."""
        if self._step is None:
            return stored
        return stored.astype(np.float16) * np.float16(self._step)


class StoredCandidates(Sequence[Candidates]):
    """The candidates of each frame of a video, whose logits are read when a frame is asked for.

    The logits of a video of usual length are read at once. Of a video with more than ``held_bytes``
    of them, memory holds the chunks that were read last, up to as many bytes.

    Raises:
        StoreError: the store or the video is missing, damaged or newer; on opening, or when a
            frame is asked for.
    """

    def __init__(self, path: Path, video_id: str, held_bytes: int = HELD_BYTES) -> None:
        self._place = f"{path}/{video_id}"
        with explain_damage(self._place):
            video = _open_video(path, video_id)
            self._stored = StoredLogits(video)
            self._logits = self._stored.array
            self._frames = _without_logits(video)
        self._chunk = self._logits.chunk_rows
        # In memory they are float16: a frame is asked for many times, and decoded once.
        size = math.prod(self._logits.shape[1:]) * np.dtype(np.float16).itemsize
        chunks = max(2, held_bytes // max(1, self._chunk * size))
        self._fits = self._logits.shape[0] * size <= held_bytes
        self._whole: NDArray[np.float16] | None = None
        self._kept: LRUCache[int, NDArray[np.float16]] = LRUCache(chunks)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def scores(self) -> list[CandidateScores]:
        """What is known of each frame's candidates beside their masks. Reads no logits."""
        return [item for _, item in self._frames]

    @overload
    def __getitem__(self, index: int) -> Candidates: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidates]: ...
    def __getitem__(self, index: int | slice) -> Candidates | list[Candidates]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        part, scores = self._frames[index]
        return Candidates(self._logits_of(part), *_values(scores))

    def _logits_of(self, part: slice) -> NDArray[np.float16]:
        if self._fits:
            if self._whole is None:
                with explain_damage(self._place):
                    self._whole = self._stored.values(self._logits.read())
            return self._whole[part]
        if part.stop == part.start:
            return np.zeros((0, *self._logits.shape[1:]), np.float16)
        first, last = part.start // self._chunk, (part.stop - 1) // self._chunk
        with explain_damage(self._place):
            found = [self._rows(number) for number in range(first, last + 1)]
        rows = found[0] if len(found) == 1 else np.concatenate(found)
        start = part.start - first * self._chunk
        return rows[start : start + part.stop - part.start]

    def _rows(self, number: int) -> NDArray[np.float16]:
        if number not in self._kept:
            self._kept[number] = self._stored.values(self._logits.read(number, number + 1))
        return self._kept[number]


def _open_video(path: Path, video_id: str) -> Path:
    return open_video(path, video_id, FORMAT, FORMAT_VERSION, product="candidates", stage="segment")


def _values(
    scores: CandidateScores,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    return scores.predicted_iou, scores.stability, scores.box_row


def _without_logits(video: Path) -> list[tuple[slice, CandidateScores]]:
    """For each frame the rows of its logits, and all else of it."""
    frame = read_array(video / "frame", np.int32)
    predicted_iou = read_array(video / "predicted_iou", np.float32)
    stability = read_array(video / "stability", np.float32)
    box_count = read_array(video / "box_count", np.int32)
    box_row = read_array(video / "box_row", np.int32)
    starts = np.searchsorted(frame, np.arange(len(box_count) + 1)).tolist()
    box_starts = np.concatenate([[0], np.cumsum(box_count)]).tolist()
    return [
        (
            slice(low, high),
            CandidateScores(
                predicted_iou=predicted_iou[low:high],
                stability=stability[low:high],
                box_row=box_row[box_low:box_high] - np.int32(low),
            ),
        )
        for (low, high), (box_low, box_high) in zip(
            pairwise(starts), pairwise(box_starts), strict=True
        )
    ]


def _joined(
    arrays: Sequence[NDArray[np.generic]], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    if not arrays:
        return np.zeros(0, dtype=dtype)
    return np.concatenate(arrays).astype(dtype, copy=False)
