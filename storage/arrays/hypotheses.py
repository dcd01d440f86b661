"""Reads and writes hypotheses, ``fuse/<shard>.zarr``: a group per video, in it one per
expression."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import overload

import numpy as np

from pipeline.types import Hypotheses, SampleKey
from storage.arrays.zarr_arrays import write_array
from storage.arrays.zarr_groups import (
    ShardStoreWriter,
    create_group,
    explain_damage,
    group_attributes,
    open_video,
    read_array,
)
from storage.files.atomic import explain_disk_errors
from storage.files.names import published_name, safe_name, stored_name

FORMAT = "pseudolabels.hypotheses"
FORMAT_VERSION = 1

_TYPES: dict[str, type[np.generic]] = {
    "candidate": np.int32,
    "share": np.float32,
    "count": np.int32,
    "box": np.float32,
    "score": np.float32,
    "box_score": np.float32,
    "agreement": np.float32,
    "negative_margin": np.float32,
    "predicted_iou": np.float32,
    "stability": np.float32,
    "status": np.uint8,
}
"""Array -> dtype; with ``key`` and ``reason``, which are attributes, the fields of Hypotheses."""

assert {field.name for field in fields(Hypotheses)} == {*_TYPES, "key", "reason"}


class HypothesisWriter(ShardStoreWriter):
    """Writes the hypotheses of a shard, one video at a time, whole or in parts."""

    kind = FORMAT
    version = FORMAT_VERSION

    def write_video(self, video_id: str, hypotheses: Iterable[Hypotheses]) -> None:
        """Adds a video: the hypotheses of each of its expressions, in their order."""
        video = self.start_video(video_id)
        for item in hypotheses:
            video.append(item)
        video.finish()

    def start_video(self, video_id: str) -> HypothesisStream:
        """Begins a video whose expressions are added one by one. It can be read once it is
        finished."""
        safe_name(video_id, self._path, "video id")
        return HypothesisStream(self._folder / stored_name(video_id), self._path)


class HypothesisStream:
    """Writes one video. Expressions are written when they are added, and not kept in memory."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder, self._path = folder, path
        self._expressions: list[str] = []

    def append(self, item: Hypotheses) -> None:
        """Adds an expression."""
        expression = safe_name(item.key.expression, self._path, "expression id")
        group = self._folder / stored_name(expression)
        about = {"dataset": item.key.dataset, "split": item.key.split}
        with explain_disk_errors(self._path):
            self._folder.mkdir(exist_ok=True)
            create_group(group, {**about, "reason": list(item.reason)})
            for name, dtype in _TYPES.items():
                values = getattr(item, name).astype(dtype, copy=False)
                write_array(group / name, values)
        self._expressions.append(expression)

    def finish(self) -> None:
        """Makes the video readable."""
        with explain_disk_errors(self._path):
            create_group(self._folder, {"expressions": self._expressions})


class StoredHypotheses(Sequence[Hypotheses]):
    """The hypotheses of each expression of a video, in the order written, read on access.

    Raises:
        StoreError: the store or the video is missing, damaged or newer; on opening, or when an
            expression is asked for.
    """

    def __init__(self, path: Path, video_id: str) -> None:
        with explain_damage(f"{path}/{video_id}"):
            self._video = open_video(
                path, video_id, FORMAT, FORMAT_VERSION, product="hypotheses", stage="fuse"
            )
            self._expressions = _texts(group_attributes(self._video)["expressions"])

    def __len__(self) -> int:
        return len(self._expressions)

    @overload
    def __getitem__(self, index: int) -> Hypotheses: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hypotheses]: ...
    def __getitem__(self, index: int | slice) -> Hypotheses | list[Hypotheses]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        expression = self._expressions[index]
        with explain_damage(str(self._video)):
            safe_name(expression, self._video, "expression id")
            group = self._video / stored_name(expression)
            attributes = group_attributes(group)
            place = (str(attributes["dataset"]), str(attributes["split"]))
            arrays = {name: read_array(group / name, dtype) for name, dtype in _TYPES.items()}
            return Hypotheses(
                key=SampleKey(*place, published_name(self._video.name), expression),
                reason=tuple(_texts(attributes["reason"])),
                **arrays,
            )


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
