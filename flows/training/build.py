"""Builds the student of a configuration: its encoders, its clips, and the masks it learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from flows.context import RunContext
from flows.finished_results import own_masks
from flows.training.reviewed import promised_masks, reviewed_masks
from flows.training.sentences import StoredSentences
from pipeline.config import (
    GroPromptConfig,
    GroPromptStudentConfig,
    GroundedConfig,
    GroundedStudentConfig,
    ReferformerStudentConfig,
    RunConfig,
    SimrvosStudentConfig,
    StudentConfig,
    WsrvosConfig,
    WsrvosStudentConfig,
)
from pipeline.costs import Annotation
from pipeline.errors import ConfigError
from pipeline.ports import DatasetReader, MaskSource
from stages.common.checkpoints import weights_of_student
from storage.arrays.masks import MaskStore

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student
    from stages.student.data.joined import Draws
    from stages.student.data.supervision import SupervisionSource


def clips_of(context: RunContext, masks: MaskSource | None = None) -> Draws:
    """Returns the clips of :func:`annotated_clips`, and says what their annotation costs."""
    clips, annotation = annotated_clips(context, masks)
    if annotation is not None:
        context.progress.say(annotation.words)
    return clips


def annotated_clips(
    context: RunContext, masks: MaskSource | None = None
) -> tuple[Draws, Annotation | None]:
    """Returns the clips that the student of a configuration learns from, and how much annotation
    teaches it; None for pseudo-masks, sentences or optical flow alone.

    Args:
        masks: in place of the run's.

    Raises:
        ConfigError: the run has not come to what the student is taught by.
        PseudoLabelError: nothing is known of any frame.
    """
    from stages.student.data.annotation import Annotations
    from stages.student.data.clips import Clips, Shape
    from stages.student.data.joined import JoinedDraws

    config, source = context.config.student, taught_by(context, masks)
    told: WsrvosConfig | GroundedConfig | None = None
    if isinstance(config, WsrvosStudentConfig):
        told = config.wsrvos
    elif isinstance(config, GroundedStudentConfig):
        told = config.grounded
    shape = Shape(
        config.frames_per_clip,
        config.expressions_per_clip,
        told.positives_per_clip if told else 0,
        told.negatives_per_clip if told else 0,
        fill=config.weak is not None and config.weak.lgcfs,
        consecutive=isinstance(config, GroundedStudentConfig),
    )
    draw = partial(Clips, shape=shape, seed=context.config.seed, views=config.views)
    sentences = StoredSentences(context.paths.folder) if told else None
    parts: list[Draws] = [draw(context.reader(), source, sentences=sentences)]
    annotations = [source] if isinstance(source, Annotations) else []
    budget = config.annotation
    if budget is not None:  # further data sets have no pseudo-masks
        budget = budget.model_copy(update={"others": "nothing"})
    for reader in joint_readers(config):
        others = Annotations(reader, every_sample(reader), budget, seed=context.config.seed)
        parts.append(draw(reader, others))
        annotations.append(others)
    clips = parts[0] if len(parts) == 1 else JoinedDraws(parts, context.config.seed)
    if not annotations:
        return clips, None
    found = sum((item.bought for item in annotations), Counter[str]())
    return clips, Annotation(found["mask"], found["boxes"], found["points"])


def joint_readers(config: StudentConfig) -> list[DatasetReader]:
    """Returns the readers of the further data sets that teach a student.

    Raises:
        ConfigError: one has no root.
    """
    from storage.datasets import open_dataset

    readers = []
    for item in config.joint:
        if item.root is None:
            raise ConfigError(
                f"student.joint: {item.name} without root; expected its folder, such as"
                f' student.joint=[{{name="{item.name}", root="DIR"}}]'
            )
        readers.append(open_dataset(item.name, item.root, item.split, item.links, item.sampling))
    return readers


def taught_by(context: RunContext, masks: MaskSource | None = None) -> SupervisionSource:
    """What the student of a configuration is taught by: optical flow, sentences alone, or what is
    known of the frames of the samples that have masks.

    Args:
        masks: in place of the run's.

    Raises:
        ConfigError: the run has not come to it.
    """
    from stages.student.data.optical_flow import OpticalFlow
    from stages.student.data.supervision import SentencesAlone

    config = context.config.student
    if isinstance(config, SimrvosStudentConfig) and config.supervision == "flow":
        return OpticalFlow(context.reader(), config.slvp.window)
    if config.supervision != "text":
        source = masks
        if source is None and (config.needs_masks or own_masks(context).videos()):
            source = masks_to_train_on(context)
        if source is not None and config.reviewed_only:
            source = reviewed_masks(context, source)
        if source is not None and config.minimum_j is not None:
            source = promised_masks(context, source, config.minimum_j)
        return supervision_of(config, context.reader(), source, context.config.seed)
    sentences = StoredSentences(context.paths.folder)
    if not sentences.videos():
        raise ConfigError(
            f"{context.paths.folder}: no sentences; expected those of the augment stage, which"
            " `pseudolabels run --to-stage augment` writes"
        )
    return SentencesAlone(context.reader(), sentences.samples)


def masks_to_train_on(context: RunContext) -> MaskStore:
    """Returns the run's masks, or those that ``student.masks`` names.

    Raises:
        ConfigError: there are none.
    """
    named = context.config.student.masks
    store = own_masks(context) if named is None else MaskStore(named)
    if not store.videos():
        raise ConfigError(
            f"{store.path}: no masks; expected a mask store; `pseudolabels run` makes a run's, and"
            " `pseudolabels predict --to STORE.zarr` a student's"
        )
    return store


def supervision_of(
    config: StudentConfig, reader: DatasetReader, masks: MaskSource | None, seed: int = 0
) -> SupervisionSource:
    """Returns the supervision of frames: pseudo-masks, or the annotation of the same samples.

    Args:
        masks: the run's; None for the annotation of all samples of a data set.
        seed: of the random frames of a budget.
    """
    from stages.student.data.annotation import Annotations
    from stages.student.data.supervision import PseudoMasks

    made = None if masks is None else PseudoMasks(masks, weighted=config.frame_weights)
    match config.supervision:
        case "pseudo_masks":
            assert made is not None, "pseudo-masks are the run's"
            return made
        case "text":
            raise ValueError("of sentences alone nothing is known of any frame")
        case "flow":
            raise ValueError("optical flow is not of samples that have masks")
        case _:
            samples = every_sample(reader) if masks is None else masks.samples()
            return Annotations(reader, samples, config.annotation, seed=seed, made=made)


def every_sample(reader: DatasetReader) -> Iterator[tuple[str, str]]:
    """Yields (video, expression) of all samples of a split."""
    for video in reader.video_ids():
        for expression in reader.expressions(video):
            yield video, expression.key.expression


def student_to_train(run: RunConfig, device: torch.device) -> Student:
    """Returns the student of a configuration at the start of its training, with the weights that
    ``student.start`` names, if any.

    Raises:
        CheckpointError: weights are missing or of another model.
    """
    from stages.common.weights import fill_model

    student = build_student(run, device)
    if run.student.start is not None:
        fill_model(student, weights_of_student(run.student.start))
    return student


def build_student(run: RunConfig, device: torch.device) -> Student:
    """Returns the untrained student of a configuration.

    Encoders are those of the student's section; the demo's are the demo grounder's, the text
    encoder frozen, the image encoder its own, started from the grounder's or from nothing.
    GroPrompt takes the run's own grounder and segmenter.

    Raises:
        CheckpointError: weights are missing or of another model.
    """
    from pipeline.config import GroundConfig
    from stages.ground.encoders import GroundingText, SwinPyramid, projection_of
    from stages.ground.grounder import load_model
    from stages.student.encoders import build_encoders
    from stages.student.referformer.network import ReferFormerNetwork
    from stages.student.referformer.student import ReferFormerStudent
    from stages.student.simrvos.alignment import align
    from stages.student.simrvos.model import ImageEncoder, SimRVOS, TextEncoder
    from stages.student.simrvos.student import SimRVOSStudent
    from stages.student.wsrvos.student import Wsrvos

    config = run.student
    if isinstance(config, GroPromptStudentConfig):
        return _groprompt(run, config.groprompt, device)
    if isinstance(config, GroundedStudentConfig):
        return _grounded(run, config, device)

    def demo() -> tuple[ImageEncoder, TextEncoder]:
        grounder = load_model(GroundConfig(), device)
        pyramid = SwinPyramid()
        if config.initialise == "demo":
            pyramid.start_from(grounder)
        return pyramid, GroundingText(grounder)

    images, texts = build_encoders(config.encoders, demo, device)
    if isinstance(config, WsrvosStudentConfig):
        return Wsrvos(
            images, texts, config.wsrvos, channels=config.channels, short_side=config.short_side
        )
    if isinstance(config, ReferformerStudentConfig):
        former = ReferFormerNetwork(images, texts, config.referformer, config.channels)
        return ReferFormerStudent(former, config)
    parts = config.simrvos
    network = SimRVOS(images, texts, config.channels, contrastive=parts.blcl, fusion=parts.fusion)
    if (
        config.initialise == "demo"
        and isinstance(images, SwinPyramid)
        and isinstance(texts, GroundingText)
    ):
        align(network, projection_of(texts.grounder))
    return SimRVOSStudent(network, config)


def _grounded(run: RunConfig, config: GroundedStudentConfig, device: torch.device) -> Student:
    from stages.ground.grounder import load_model, prepare
    from stages.ground.instances import QueryProposer
    from stages.student.grounded.student import GroundedStudent

    model = prepare(load_model(run.ground, device), run.ground)
    return GroundedStudent(
        QueryProposer(model, run.ground, config.grounded.instances),
        config.grounded,
        run.track,
        channels=config.channels,
        short_side=config.short_side,
    ).to(device)


def _groprompt(run: RunConfig, config: GroPromptConfig, device: torch.device) -> Student:
    from stages.ground.grounder import load_model
    from stages.ground.proposer import DecoderProposer
    from stages.segment.prompter import BoxPrompter
    from stages.segment.segmenter import load_sam
    from stages.student.groprompt.student import GroPrompt

    return GroPrompt(
        DecoderProposer(load_model(run.ground, device), run.ground),
        BoxPrompter(load_sam(run.segment, device), run.segment),
        config,
    ).to(device)
