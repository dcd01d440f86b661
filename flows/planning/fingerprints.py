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

ENDPOINT_READING = 4
"""Raised when an endpoint's answers are read otherwise; 2 reads them as a model's own, 3 puts the
tokens of a letter together, 4 sends the JSON schema of the answer."""

MLLM_READING = 1
"""Raised when a multimodal language model is asked for boxes otherwise, or read otherwise."""

PHRASES = 1
"""Raised when other noun phrases are found in sentences."""

_WEAK_PARTS: Mapping[str, tuple[str, ...]] = {
    "lgcfs": ("lgcfs_weight", "lgcfs_boxes"),
    "mil": ("mil_weight",),
    "blcl": (
        "blcl_weight",
        "blcl_threshold",
        "blcl_levels",
        "blcl_predictions",
        "blcl_balanced",
    ),
}
"""Switches, and the settings that count for nothing where they are off."""

_OF_VALIDATION = ("validate_split", "validate_videos", "patience")


Weights = Callable[[str], str]
"""Digest of a checkpoint by the name that the configuration gives it."""

_NAMED_BY_DIGEST = frozenset(
    {
        "adapter",
        "api_key_env",
        "backbone_checkpoint",
        "calibration",
        "checkpoint",
        "file",
        "masks",
        "sha256",
        "similarity_checkpoint",
        "start",
        "text_encoder",
    }
)
"""Fields of a section whose content counts, or nothing at all; not where it lies."""


def settings(section: Section) -> dict[str, Any]:
    """The settings of a section, and of those within it, that change a result."""
    return _without(section.model_dump(mode="json"), EXECUTION | _NAMED_BY_DIGEST)


def _without(values: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {
        name: _without(value, names) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in names
    }


def augment_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What augmentations depend on. Raises InputError if the augmentation file cannot be read."""
    section = config.augment
    basis: dict[str, Any] = {
        "config": settings(section),
        "seed": config.seed,
        "dataset": {"name": config.dataset.name, "split": config.dataset.split}
        | config.dataset.sampling,
    }
    _drop_unused_of_augment(basis["config"])
    if section.source == "model":
        basis["weights"] = weights(section.checkpoint)
    if section.similarity == "encoder":
        assert section.similarity_checkpoint is not None
        basis["similarity_weights"] = weights(section.similarity_checkpoint)
    else:
        del basis["config"]["similarity"]
    if section.source == "endpoint":
        basis["reading"] = ENDPOINT_READING
    if section.source == "file" and section.file is not None:
        basis["file"] = _input_digest(section.file)
    return basis


def _drop_unused_of_augment(section: dict[str, Any]) -> None:
    """Drops settings of `augment` that change nothing as they are."""
    del section["timeout_seconds"]
    if section["input"] == "images":
        del section["input"], section["frames_per_second"]
    if not section["nouns"] or section["source"] not in ("model", "endpoint"):
        del section["nouns"]
    if section["max_video_pixels"] is None:
        del section["max_video_pixels"]
    if section["source"] != "endpoint" or not section["extra_body"]:
        del section["extra_body"]


def ground_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What boxes depend on. Raises CheckpointError if weights are missing."""
    basis: dict[str, Any] = {"config": settings(config.ground)}
    if not config.ground.screen:
        del basis["config"]["screen"]
    if config.ground.source != "annotation" or config.ground.annotated_frames is None:
        del basis["config"]["annotated_frames"]
    if config.ground.source == "mllm":
        del basis["config"]["mllm"]["timeout_seconds"]
        return basis | of_mllm(config.ground, weights)
    del basis["config"]["mllm"]
    if config.ground.source == "model":
        basis |= of_grounder(config.ground, weights)
    return basis


def segment_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What candidate masks depend on. Raises CheckpointError if weights are missing."""
    return {"config": settings(config.segment), "weights": weights(config.segment.checkpoint)}


def track_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What tracks depend on. Raises CheckpointError if weights are missing."""
    basis: dict[str, Any] = {"config": settings(config.track)}
    if not config.track.uses_checkpoint:
        for name in ("source", "dtype", "objects", "prompts"):
            del basis["config"][name]
        return basis
    if config.track.source == "sam3":
        basis["phrases"] = PHRASES
        del basis["config"]["prompts"]
    return basis | {"weights": weights(config.track.checkpoint)}


def student_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What a student and its predictions depend on.

    Raises:
        CheckpointError: weights are missing.
    """
    student = config.student
    basis: dict[str, Any] = {"config": settings(student), "seed": config.seed}
    _drop_parts_that_are_off(basis["config"])
    basis["config"].pop("joint")
    if student.joint:
        basis["joint"] = [[item.name, item.split, item.only_videos] for item in student.joint]
    if student.masks is not None:
        basis["masks"] = _masks_digest(student.masks)
    if student.minimum_j is not None:
        basis["promised"] = _promised_digest(config)
    if student.start is not None:
        basis["start"] = weights(str(weights_of_student(student.start)))
    basis["predict_split"] = config.dataset.predict_split
    basis["weights"] = _weights_of_encoders(student.encoders, weights)
    if student.model in ("groprompt", "grounded"):
        # It starts from the grounder, whether or not the run's boxes are the grounder's.
        basis["models"] = [ground_basis(config, weights) | of_grounder(config.ground, weights)]
    if student.model == "groprompt":
        basis["models"].append(segment_basis(config, weights))
    if student.model == "grounded":
        # It links instances as the stage track does without a model, whatever that stage does.
        track = config.track.model_copy(update={"source": "association"})
        basis["models"].append(track_basis(config.model_copy(update={"track": track}), weights))
    return basis


def prediction_basis(config: RunConfig, weights: Weights) -> dict[str, Any]:
    """What predicted masks depend on beside the student's weights.

    The student's configuration without what it was trained on, and the models that it uses but
    does not train.
    """
    basis = student_basis(_untaught(config), weights)
    return {name: basis[name] for name in ("config", "weights", "models") if name in basis}


def of_mllm(config: GroundConfig, weights: Weights) -> dict[str, Any]:
    """How a multimodal language model is read, and its weights if they are here."""
    reading = {"reading": MLLM_READING}
    return reading if config.mllm.endpoint else reading | {"weights": weights(config.checkpoint)}


def of_grounder(config: GroundConfig, weights: Weights) -> dict[str, str]:
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


def _masks_digest(path: Path) -> str:
    """Of what a store's masks were made by."""
    from storage.arrays.masks import MaskStore

    store = MaskStore(path)
    return digest({video: store.fingerprints(video) for video in store.videos()})


def _promised_digest(config: RunConfig) -> str:
    """Of what is promised of the run's masks; empty if nothing is yet."""
    path = config.run_folder / "guarantee.parquet"
    return file_digest(path) if path.is_file() else ""


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


def _drop_parts_that_are_off(student: dict[str, Any]) -> None:
    """Drops the settings of parts of a training that are switched off."""
    if not student["reviewed_only"]:
        del student["reviewed_only"]
    if student["minimum_j"] is None:
        del student["minimum_j"]
    for own in (student.get("simrvos", {}), student.get("referformer", {})):
        for part, names in _WEAK_PARTS.items():
            if not own.get(part):
                for name in names:
                    own.pop(name, None)
    if student["supervision"] != "budget":
        del student["budget"]
    if student["supervision"] != "flow":
        student.pop("slvp", None)
    if not student["training"]["validate_every"]:
        for name in _OF_VALIDATION:
            del student["training"][name]


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
    nothing = ("no target",)
    for video in shard.videos:
        try:
            texts[video] = [
                (item.key.expression, item.text, item.object_ids or nothing[: item.no_target])
                for item in reader.expressions(video)
            ]
        except InputError as error:
            texts[video] = str(error.found)
    return texts
