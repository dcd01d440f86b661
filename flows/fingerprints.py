"""What the product of a stage depends on beside the products that it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.layout import Shard
from pipeline.config import EXECUTION, RunConfig
from pipeline.errors import InputError
from pipeline.fingerprint import file_digest
from pipeline.ports import DatasetReader

STAGE_VERSIONS: Mapping[str, int] = {
    "augment": 2,
    "ground": 1,
    "segment": 2,
    "fuse": 1,
    "rank": 1,
    "merge": 1,
    "student": 1,
    "evaluate": 1,
    "report": 1,
}
"""Raised when a stage gives another result for the same configuration."""


_STUDENT_PARTS: Mapping[str, tuple[str, ...]] = {
    "lgcfs": ("lgcfs_weight",),
    "mil": ("mil_weight",),
    "blcl": ("blcl_weight", "blcl_threshold"),
}
"""Parts of the student's training, and the fields that count for nothing where a part is off."""


def base_of(stage: str, config: RunConfig, weights: Callable[[str], str]) -> dict[str, Any]:
    """What a stage's products depend on beside its inputs; no path, device or batch size."""
    base: dict[str, Any] = {"stage": stage, "version": STAGE_VERSIONS[stage]}
    section = getattr(config, stage, None)
    if section is not None:
        leave_out = EXECUTION | {"checkpoint", "sha256", "file", "text_encoder", "api_key_env"}
        base["config"] = {
            name: value
            for name, value in section.model_dump(mode="json").items()
            if name not in leave_out
        }
    if stage == "augment":
        base["seed"] = config.seed
        base["dataset"] = {"name": config.dataset.name, "split": config.dataset.split}
        base["config"].pop("timeout_seconds")
        if config.augment.source == "model":
            base["weights"] = weights(config.augment.checkpoint)
        if config.augment.source == "file" and config.augment.file is not None:
            base["file"] = _input_digest(config.augment.file)
    elif stage == "ground":
        if config.ground.every == 1:
            # As before there were key frames.
            del base["config"]["every"]
        if config.ground.source == "model":
            base["weights"] = weights(config.ground.checkpoint)
    elif stage == "segment":
        base["weights"] = weights(config.segment.checkpoint)
    elif stage == "student":
        base["seed"] = config.seed
        _leave_out_what_is_off(base["config"])
        base["predict_split"] = config.dataset.predict_split
        # The student's encoders are the demo grounder's.
        base["weights"] = weights("demo:ground")
    return base


def _leave_out_what_is_off(student: dict[str, Any]) -> None:
    """A student without a part is the one that it was before there was such a part."""
    for part, fields in _STUDENT_PARTS.items():
        if not student[part]:
            for name in (part, *fields):
                del student[name]
    if student["supervision"] == "pseudo_masks":
        del student["supervision"]


def _input_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(
            path, error.strerror or str(error), "a WSRVOS augmentation file", "check augment.file"
        ) from error


def texts_of_shard(reader: DatasetReader, shard: Shard) -> dict[str, Any]:
    """The sentences of a shard; a video whose sentences cannot be read is noted as such."""
    texts: dict[str, Any] = {}
    for video in shard.videos:
        try:
            texts[video] = [(e.key.expression, e.text) for e in reader.expressions(video)]
        except InputError as error:
            texts[video] = str(error.found)
    return texts
