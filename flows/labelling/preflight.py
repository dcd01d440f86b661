"""What settings ask for and only a late stage would miss, looked at before the first starts."""

from __future__ import annotations

from flows.context import RunContext
from flows.planning.plan import Plan
from flows.training.build import masks_to_train_on
from pipeline.errors import ConfigError, InputError
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex

_WITH_MODELS = frozenset({"augment", "ground", "segment", "student"})


def check_before_start(context: RunContext, plan: Plan) -> None:
    """Does nothing where every stage that a plan has to do finds what its settings name.

    Raises:
        ConfigError: the device is not there, or a student's masks, or truth to measure it against.
        InputError: a split that is named is not there.
    """
    left = {stage for stage in plan.stages if any(not job.done for job in plan.jobs.get(stage, ()))}
    if left & _WITH_MODELS:
        check_device(context)
    if "student" in left:
        check_student(context)


def check_device(context: RunContext) -> None:
    """Raises ConfigError where the device that is named is not there. The workers of a Ray cluster
    have devices of their own."""
    config = context.config
    if config.device not in ("auto", "cpu") and config.runner.kind == "local":
        _ = context.device


def check_student(context: RunContext) -> None:
    """Raises ConfigError, or InputError of a split, for what a student's training would miss."""
    config = context.config.student
    if config.masks is not None:
        masks_to_train_on(context)
    if context.config.dataset.predict_split is not None:
        context.reader(context.config.dataset.predict_split).video_ids()
    if config.training.validate_every:
        reader = context.reader(config.training.validate_split)
        if not _has_truth(reader, config.training.validate_videos):
            raise ConfigError(
                f"student.training.validate_every with split {reader.split!r} of {reader.name}: no"
                " frame of its first videos has truth to measure J&F against; name a split with"
                " masks in student.training.validate_split, or set validate_every=0"
            )


def _has_truth(reader: DatasetReader, videos: int) -> bool:
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
