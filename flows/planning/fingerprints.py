"""What the product of a stage depends on beside the products that it is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.planning.shards import Shard
from pipeline.config import (
    EXECUTION,
    GroundConfig,
    RunConfig,
    Section,
    StudentEncodersConfig,
    TrainingConfig,
)
from pipeline.errors import CheckpointError, InputError
from pipeline.fingerprint import digest, file_digest
from pipeline.ports import DatasetReader
from stages.common.checkpoints import REMEDY, settings_files, weights_of_student

ENDPOINT_READING = 3
"""Raised when an endpoint's answers are read otherwise; 2 reads them as a model's own, 3 puts the
tokens of a letter together."""

_STUDENT_PARTS: Mapping[str, tuple[str, ...]] = {
    "lgcfs": ("lgcfs_weight",),
    "mil": ("mil_weight",),
    "blcl": ("blcl_weight", "blcl_threshold"),
}
"""Parts of the student's training, and the fields that count for nothing where a part is off."""

_OF_WSRVOS = ("positives_a_clip", "negatives_a_clip", "wsrvos")
_TRAINING_EXECUTION = ("workers", "parts_a_step", "checkpoint_every")
_OF_VALIDATION = ("validate_split", "validate_videos", "patience")


Weights = Callable[[str], str]
"""Digest of a checkpoint by the name that the configuration gives it."""

_NAMED_BY_DIGEST = frozenset(
    {"checkpoint", "sha256", "file", "text_encoder", "adapter", "api_key_env"}
)
"""Fields of a section whose content counts, or nothing at all; not where it lies."""


def settings(section: Section) -> dict[str, Any]:
    """The settings of a section that change a result."""
    return {
        name: value
        for name, value in section.model_dump(mode="json").items()
        if name not in EXECUTION | _NAMED_BY_DIGEST
    }


def augment_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What augmentations depend on. Raises InputError if the augmentation file cannot be read."""
    section = config.augment
    basis: dict[str, Any] = {
        "config": settings(section),
        "seed": config.seed,
        "dataset": {"name": config.dataset.name, "split": config.dataset.split},
    }
    basis["config"].pop("timeout_seconds")
    if section.source == "model":
        basis["weights"] = weights(section.checkpoint)
    if section.source == "endpoint":
        basis["reading"] = ENDPOINT_READING
    if section.source == "file" and section.file is not None:
        basis["file"] = _input_digest(section.file)
    return basis


def ground_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What boxes depend on. Raises CheckpointError if weights are missing."""
    basis: dict[str, Any] = {"config": settings(config.ground)}
    if config.ground.source == "model":
        basis |= _of_grounder(config.ground, weights)
    return basis


def segment_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What candidate masks depend on. Raises CheckpointError if weights are missing."""
    return {"config": settings(config.segment), "weights": weights(config.segment.checkpoint)}


def student_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What a student and its predictions depend on.

    Raises:
        CheckpointError: weights are missing.
    """
    student = config.student
    basis: dict[str, Any] = {"config": settings(student), "seed": config.seed}
    _leave_out_what_changes_nothing(basis["config"])
    if basis["config"].pop("masks") is not None:
        basis["masks"] = _masks_digest(student.masks)
    basis["config"].pop("start")
    if student.start is not None:
        basis["start"] = weights(str(weights_of_student(student.start)))
    basis["predict_split"] = config.dataset.predict_split
    basis["weights"] = _weights_of_encoders(student.encoders, weights)
    if student.model == "groprompt":
        # It starts from the grounder, whether or not the run's boxes are the grounder's.
        ground = ground_basis(config, weights) | _of_grounder(config.ground, weights)
        basis["models"] = [ground, segment_basis(config, weights)]
    return basis


def prediction_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What predicted masks depend on beside the student's weights.

    The student's configuration without what it was trained on, and the models that it uses but
    does not train.
    """
    basis = student_basis(_untaught(config), weights)
    return {name: basis[name] for name in ("config", "weights", "models") if name in basis}


def _of_grounder(config: GroundConfig, weights: Weights) -> dict[str, str]:
    """Digests of the files that a grounder is made of."""
    found = {"weights": weights(config.checkpoint)}
    if config.text_encoder is not None:
        found["text_encoder"] = _text_encoder_digest(config.text_encoder)
    if config.adapter is not None:
        found["adapter"] = weights(str(config.adapter))
    return found


def _untaught(config: RunConfig) -> RunConfig:
    """A configuration without what its student was taught by, and how: its weights say that."""
    changes = {"masks": None, "start": None, "training": TrainingConfig()}
    student = config.student.model_copy(update=changes)
    return config.model_copy(update={"student": student})


def _text_encoder_digest(folder: Path) -> str:
    """Of the tokenizer and sizes of BERT; its weights are in the grounder's checkpoint."""
    try:
        return digest([file_digest(path) for path in settings_files(folder)])
    except OSError as error:
        raise CheckpointError(
            folder, error.strerror or str(error), "the folder of bert-base-uncased", REMEDY
        ) from error


def _masks_digest(path: Path | None) -> str:
    """Of what a store's masks were made by."""
    from storage.arrays.masks import MaskStore

    assert path is not None, "asked for where there is a store"
    store = MaskStore(path)
    return digest({video: store.fingerprints(video) for video in store.videos()})


def _weights_of_encoders(encoders: StudentEncodersConfig, weights: Weights) -> dict[str, str]:
    """Digests of what a student's encoders start from; the demo's are the demo grounder's."""
    found = {}
    if "demo" in (encoders.backbone, encoders.text_encoder):
        found["demo"] = weights("demo:ground")
    if encoders.backbone_checkpoint is not None:
        found["backbone"] = weights(str(encoders.backbone_checkpoint))
    if encoders.text_encoder != "demo":
        found["text"] = weights(str(encoders.text_encoder))
    return found


def _leave_out_what_changes_nothing(student: dict[str, Any]) -> None:
    """Drops what only says how fast a student is trained, and what belongs to parts that are off,
    so that a student without a part is the one that it was before there was such a part."""
    unused = [name for part, names in _STUDENT_PARTS.items() if not student[part] for name in names]
    if student["model"] != "wsrvos":
        unused += _OF_WSRVOS
    if student["model"] != "groprompt":
        unused.append("groprompt")
    if student["supervision"] != "flow":
        unused.append("slvp")
    if student["fusion"] == "both":
        unused.append("fusion")
    for name in unused:
        del student[name]
    # Where weights lie is nothing that a student follows from; what they are is in the digests.
    student["encoders"] = {"backbone": student["encoders"]["backbone"]}
    training = student["training"]
    for name in _TRAINING_EXECUTION:
        del training[name]
    if not training["validate_every"]:
        for name in _OF_VALIDATION:
            del training[name]


def _input_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(
            path, error.strerror or str(error), "a WSRVOS augmentation file", "check augment.file"
        ) from error


def texts_of_shard(reader: DatasetReader, shard: Shard) -> dict[str, Any]:
    """The sentences of a shard and the objects that they are about.

    A video whose sentences cannot be read is noted as such.
    """
    texts: dict[str, Any] = {}
    for video in shard.videos:
        try:
            texts[video] = [
                (item.key.expression, item.text, item.object_ids)
                for item in reader.expressions(video)
            ]
        except InputError as error:
            texts[video] = str(error.found)
    return texts
