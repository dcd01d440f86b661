"""Checks before the first stage what only a late stage would miss."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flows.context import RunContext
from flows.planning.plan import Plan
from pipeline.config import (
    AugmentConfig,
    GroundConfig,
    JudgeConfig,
    RunConfig,
    SegmentConfig,
    TrackConfig,
)
from pipeline.errors import ConfigError, InputError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex
from stages.common.checkpoints import check_digest

_WITH_MODELS = frozenset({"augment", "ground", "segment", "student"})


def check_before_start(context: RunContext, plan: Plan) -> None:
    """Checks that every pending stage finds what its settings name.

    Raises:
        ConfigError: the device, a student's masks, or ground truth to validate it on is missing.
        InputError: a split is missing.
        CheckpointError: weights are not those of the configuration.
    """
    left = {stage for stage in plan.stages if any(not job.done for job in plan.jobs.get(stage, ()))}
    config = context.config
    follows = "track" in left and config.track.uses_checkpoint
    judges = "judge" in left and config.judge.source == "model"
    if left & _WITH_MODELS or follows or judges:
        check_device(context)
    check_weights(context.config, left)
    if "student" in left:
        check_student(context)


def check_device(context: RunContext) -> None:
    """Raises ConfigError if the device does not exist. Workers of a Ray cluster have their own."""
    config = context.config
    if config.device not in ("auto", "cpu") and config.runner.kind == "local":
        _ = context.device


def check_weights(config: RunConfig, stages: Collection[str]) -> None:
    """Raises CheckpointError if the weights of a stage have another digest than the configuration
    says, which its model would only find when its turn comes."""
    sections: Mapping[
        str, AugmentConfig | GroundConfig | SegmentConfig | TrackConfig | JudgeConfig
    ] = {
        "augment": config.augment,
        "ground": config.ground,
        "segment": config.segment,
        "track": config.track,
        "judge": config.judge,
    }
    for stage, section in sections.items():
        if stage in stages and getattr(section, "source", "model") in ("model", "sam3"):
            assert section.checkpoint is not None
            check_digest(section.checkpoint, section.sha256)


def check_student(context: RunContext) -> None:
    """Raises ConfigError or InputError if something that a training needs is missing."""
    config = context.config.student
    if config.masks is not None:
        from flows.training.build import masks_to_train_on

        masks_to_train_on(context)
    if context.config.dataset.predict_split is not None:
        context.reader(context.config.dataset.predict_split).video_ids()
    if config.training.validate_every:
        reader = context.reader(config.training.validate_split)
        if not has_truth(reader, config.training.validate_videos):
            raise ConfigError(
                f"student.training.validate_every with split {reader.split!r} of {reader.name}: no"
                " frame of its first videos has ground truth; expected a split with"
                " masks; name one in student.training.validate_split, or set validate_every=0"
            )


def has_truth(reader: DatasetReader, videos: int) -> bool:
    """Returns whether any frame of the first videos of a split has ground truth."""
    for video_id in list(reader.video_ids())[:videos]:
        try:
            video = reader.video(video_id)
            for expression in reader.expressions(video_id):
                for index in range(len(video)):
                    if reader.truth(video, expression, FrameIndex(index)) is not None:
                        return True
        except InputError:
            # A video that cannot be read is left out of the measurement.
            continue
    return False
