"""Hypotheses of a shard: ``fuse/<shard>.zarr``, a group a video, in it a group an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.types import Hypotheses, SampleKey
from storage.atomic import explain_disk_errors
from storage.names import safe_name
from storage.zarr_arrays import write_array
from storage.zarr_groups import (
    ShardStoreWriter,
    create_group,
    explain_damage,
    group_attributes,
    open_group,
    read_array,
)

FORMAT = "pseudolabels.hypotheses"
FORMAT_VERSION = 1

_CHUNK_FRAMES = 16
_TYPES: dict[str, type[np.generic]] = {
    "logits": np.float16,
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
    """Writes the hypotheses of a shard, a video at a time."""

    kind = FORMAT
    version = FORMAT_VERSION

    def write_video(self, video_id: str, hypotheses: Sequence[Hypotheses]) -> None:
        """Adds a video: the hypotheses of each of its expressions, in their order."""
        safe_name(video_id, self._path, "video id")
        expressions = [safe_name(h.key.expression, self._path, "expression id") for h in hypotheses]
        with explain_disk_errors(self._path):
            video = self._folder / video_id
            create_group(video, {"expressions": expressions})
            for item in hypotheses:
                group = video / item.key.expression
                about = {"dataset": item.key.dataset, "split": item.key.split}
                create_group(group, {**about, "reason": list(item.reason)})
                for name, dtype in _TYPES.items():
                    values = getattr(item, name).astype(dtype, copy=False)
                    write_array(group / name, values, _CHUNK_FRAMES if name == "logits" else None)


def read_hypotheses(path: Path, video_id: str) -> list[Hypotheses]:
    """The hypotheses of each expression of a video, in the order written.

    Raises:
        StoreError: the store or the video is missing, damaged or newer.
    """
    with explain_damage(f"{path}/{video_id}"):
        return _read(path, video_id)


def _read(path: Path, video_id: str) -> list[Hypotheses]:
    open_group(path, FORMAT, FORMAT_VERSION)
    video = path / video_id
    if not (video / "zarr.json").exists():
        raise StoreError(f"{path}: no video {video_id}; expected its hypotheses; run fuse again")
    result = []
    for expression in _texts(group_attributes(video)["expressions"]):
        group = video / safe_name(expression, video, "expression id")
        attributes = group_attributes(group)
        key = SampleKey(str(attributes["dataset"]), str(attributes["split"]), video_id, expression)
        arrays = {name: read_array(group / name, dtype) for name, dtype in _TYPES.items()}
        result.append(Hypotheses(key=key, reason=tuple(_texts(attributes["reason"])), **arrays))
    return result


def _texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]
