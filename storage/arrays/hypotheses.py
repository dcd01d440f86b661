"""Hypotheses of a shard: ``fuse/<shard>.zarr``, a group per video.

Its arrays have a row per expression, so that a video is a dozen files however many expressions it
has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

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
    "together": np.int32,
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

_BY_VOTER = {"candidate": -1, "share": 0}
"""Arrays whose last axis an expression's own positives decide, and what fills them up."""

assert {field.name for field in fields(Hypotheses)} == {*_TYPES, "key", "reason"}


class HypothesisWriter(ShardStoreWriter):
    """Writes the hypotheses of a shard, a video at a time, each whole or as it comes."""

    kind = FORMAT
    version = FORMAT_VERSION

    def write_video(self, video_id: str, hypotheses: Iterable[Hypotheses]) -> None:
        """Adds a video: the hypotheses of each of its expressions, in their order."""
        video = self.start_video(video_id)
        for item in hypotheses:
            video.append(item)
        video.finish()

    def start_video(self, video_id: str) -> HypothesisStream:
        """Begins a video whose expressions come in parts; it is there once it is finished."""
        safe_name(video_id, self._path, "video id")
        return HypothesisStream(self._folder / stored_name(video_id), self._path)


class HypothesisStream:
    """One video on its way to the disk."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder, self._path = folder, path
        self._keys: list[SampleKey] = []
        self._reasons: list[list[str]] = []
        self._arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in _TYPES}

    def append(self, item: Hypotheses) -> None:
        """Adds an expression; it has as many frames and hypotheses as those before it."""
        safe_name(item.key.expression, self._path, "expression id")
        self._keys.append(item.key)
        self._reasons.append(list(item.reason))
        for name, dtype in _TYPES.items():
            self._arrays[name].append(getattr(item, name).astype(dtype, copy=False))

    def finish(self) -> None:
        """Writes the video, which then can be read."""
        voters = [values.shape[-1] for values in self._arrays["candidate"]]
        most = max(voters, default=0)
        with explain_disk_errors(self._path):
            self._folder.mkdir(exist_ok=True)
            for name, values in self._arrays.items():
                if name in _BY_VOTER:
                    values = [_widened(item, most, _BY_VOTER[name]) for item in values]
                none = np.zeros((0, 1), _TYPES[name])
                write_array(self._folder / name, np.stack(values) if values else none)
            keys = [[key.dataset, key.split, key.expression] for key in self._keys]
            about = {"keys": keys, "voters": voters, "reasons": self._reasons}
            create_group(self._folder, about)


class StoredHypotheses(Sequence[Hypotheses]):
    """The hypotheses of each expression of a video, in the order written.

    Raises:
        StoreError: the store or the video is missing, damaged or newer.
    """

    def __init__(self, path: Path, video_id: str) -> None:
        with explain_damage(f"{path}/{video_id}"):
            video = open_video(
                path, video_id, FORMAT, FORMAT_VERSION, product="hypotheses", stage=path.parent.name
            )
            about = group_attributes(video)
            name = published_name(video.name)
            self._keys = [
                SampleKey(dataset, split, name, safe_name(expression, video, "expression id"))
                for dataset, split, expression in map(_texts, _list(about["keys"]))
            ]
            self._voters = [int(count) for count in _list(about["voters"])]
            self._reasons = [tuple(_texts(reasons)) for reasons in _list(about["reasons"])]
            self._arrays = {name: read_array(video / name, dtype) for name, dtype in _TYPES.items()}
            expected = len(self._keys)
            lengths = {len(self._voters), len(self._reasons), *map(len, self._arrays.values())}
            assert lengths == {expected}, f"{expected} expressions, and arrays of {lengths}"

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Hypotheses: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hypotheses]: ...
    def __getitem__(self, index: int | slice) -> Hypotheses | list[Hypotheses]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        arrays = {name: values[index] for name, values in self._arrays.items()}
        for name in _BY_VOTER:
            arrays[name] = arrays[name][..., : self._voters[index]]
        return Hypotheses(key=self._keys[index], reason=self._reasons[index], **arrays)


def _widened(values: NDArray[Any], voters: int, fill: int) -> NDArray[Any]:
    """[T, P, v] with more voters, which count for nothing."""
    missing = voters - values.shape[-1]
    return np.pad(values, [(0, 0), (0, 0), (0, missing)], constant_values=fill)


def _list(value: object) -> list[Any]:
    assert isinstance(value, list)
    return value


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
