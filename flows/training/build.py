"""What a student is made of by its configuration: its encoders, what it is shown, whose masks; and
whether what it predicted counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flows.context import Workshop
from flows.planning.plan import Plan
from flows.planning.run_paths import ALL, RunPaths, weights_of_student
from flows.training.sentences import StoredSentences
from pipeline.config import RunConfig, StudentConfig
from pipeline.errors import ConfigError, InputError
from pipeline.ports import DatasetReader, MaskSource
from storage.arrays.masks import MaskStore
from storage.datasets.weak import WeakView
from storage.run.ledger import Ledger
from storage.run.lock import lock_holder

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student
    from stages.student.data.clips import Clips
    from stages.student.data.supervision import SupervisionSource


def clips_of(shop: Workshop, masks: MaskSource | None = None) -> Clips:
    """What the student of a configuration is shown.

    Args:
        masks: in place of the run's.

    Raises:
        ConfigError: the run has not come to what the student is taught by.
        PseudoLabelError: nothing is known of any frame.
    """
    from stages.student.data.clips import Clips, Shape

    config = shop.config.student
    wants_text = config.model == "wsrvos"
    return Clips(
        shop.reader(),
        taught_by(shop, masks),
        Shape(
            config.frames_a_clip,
            config.expressions_a_clip,
            config.positives_a_clip if wants_text else 0,
            config.negatives_a_clip if wants_text else 0,
            fill=config.lgcfs,
        ),
        seed=shop.config.seed,
        views=config.views,
        sentences=StoredSentences(shop.paths.folder) if wants_text else None,
    )


def taught_by(shop: Workshop, masks: MaskSource | None = None) -> SupervisionSource:
    """What the student of a configuration is taught by: optical flow, sentences alone, or what is
    known of the frames of the samples that have masks.

    Args:
        masks: in place of the run's.

    Raises:
        ConfigError: the run has not come to it.
    """
    from stages.student.data.optical_flow import OpticalFlow
    from stages.student.data.supervision import SentencesAlone

    config = shop.config.student
    if config.supervision == "flow":
        return OpticalFlow(shop.reader(), config.slvp.window)
    if config.supervision != "text":
        return supervision_of(config, shop.reader(), masks or masks_to_train_on(shop))
    sentences = StoredSentences(shop.paths.folder)
    if not sentences.videos():
        raise ConfigError(
            f"{shop.paths.folder}: no sentences; expected those of the augment stage, which"
            " `pseudolabels run --to-stage augment` writes"
        )
    return SentencesAlone(shop.reader(), sentences.samples)


def masks_to_train_on(shop: Workshop) -> MaskStore:
    """The run's masks, or those that the configuration names in their place.

    Raises:
        ConfigError: there are none.
    """
    named = shop.config.student.masks
    store = own_masks(shop) if named is None else MaskStore(named)
    if not store.videos():
        raise ConfigError(
            f"{store.path}: no masks; expected a mask store; `pseudolabels run` makes a run's, and"
            " `pseudolabels predict --to STORE.zarr` a student's"
        )
    return store


class FinishedMasks(MaskStore):
    """The masks of a run that receipts of ``rank`` stand for; others are as if they were not there.
    A folder without a ledger is no run's, and all its masks count.

    Args:
        paths: of the run.
    """

    def __init__(self, paths: RunPaths) -> None:
        super().__init__(paths.masks)
        ledger = Ledger(paths.folder)
        finished = [receipt for receipt in ledger.receipts("rank") if receipt.error is None]
        self._finished = {video for receipt in finished for video in receipt.videos}
        if not ledger.folder.is_dir():
            self._finished.update(super().videos())

    def videos(self) -> list[str]:
        return [video for video in super().videos() if video in self._finished]

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._finished and super().__contains__(video_id)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_finished": self._finished}


def own_masks(shop: Workshop) -> FinishedMasks:
    """The masks that a run has finished; says so where there are others, or another process writes
    to the run.
    """
    store, paths = FinishedMasks(shop.paths), shop.paths
    total = len(MaskStore(paths.masks).videos())
    if (left_out := total - len(store.videos())) > 0:
        shop.progress.say(
            f"{paths.masks}: {left_out} of {total} videos are left out, whose masks"
            " the run has not finished; `pseudolabels run` finishes them"
        )
    # A stage of a run has a plan, and holds the lock itself.
    if shop.plan is None and (holder := lock_holder(paths.folder)) is not None:
        shop.progress.say(
            f"{paths.folder}: a run writes here ({holder}); its masks may"
            " change while they are read"
        )
    return store


def prediction_split(shop: Workshop) -> str:
    """The split that the student predicts: the one asked for, else ``valid`` where there is one,
    else the labelled one.

    Raises:
        InputError: there is a ``valid``, and it is damaged.
    """
    asked = shop.config.dataset.predict_split
    if asked is not None:
        return asked
    try:
        if shop.reader("valid").video_ids():
            return "valid"
    except InputError as error:
        if not _is_absent(error, "valid"):
            raise
    return shop.config.dataset.split


def _is_absent(error: InputError, split: str) -> bool:
    """Whether a reader did not open for want of the split, rather than for a damaged one: its files
    are not there, or the data set has no split of that name."""
    return error.missing or error.found == f"split {split!r}"


def student_is_done(paths: RunPaths, plan: Plan) -> bool:
    """Whether the ledger holds the student's receipt of a plan, of all shards or of some; without
    it, predictions that are there are of a student that failed or of another configuration.
    """
    ledger = Ledger(paths.folder)
    return any(
        ledger.is_done("student", ALL, fingerprint)
        for job in plan.jobs.get("student", ())
        for fingerprint in (job.fingerprint, f"partial-{job.fingerprint}")
    )


def supervision_of(
    config: StudentConfig, reader: DatasetReader, masks: MaskSource
) -> SupervisionSource:
    """What is known of frames: the pseudo-masks, or the annotation of the same samples."""
    from stages.student.data.supervision import Annotations, PseudoMasks

    match config.supervision:
        case "pseudo_masks":
            return PseudoMasks(masks, weighted=config.frame_weights)
        case "masks":
            return Annotations(reader, masks.samples(), boxes=False)
        case "first_mask_boxes":
            return Annotations(WeakView(reader, "first_mask"), masks.samples())
        case "first_mask":
            return Annotations(WeakView(reader, "first_mask"), masks.samples(), boxes=False)
        case "boxes":
            return Annotations(WeakView(reader, "boxes"), masks.samples(), masks=False)
        case "text":
            raise ValueError("of sentences alone nothing is known of any frame")
        case "flow":
            raise ValueError("optical flow is not of samples that have masks")


def student_to_train(run: RunConfig, device: torch.device) -> Student:
    """The student of a configuration as training begins: with what another student has learnt where
    ``student.start`` names one.

    Raises:
        CheckpointError: weights are missing or of another model.
    """
    from stages.common.weights import fill_model

    student = build_student(run, device)
    if run.student.start is not None:
        fill_model(student, weights_of_student(run.student.start))
    return student


def build_student(run: RunConfig, device: torch.device) -> Student:
    """The student of a configuration, before it has learnt anything.

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
    from stages.student.simrvos.alignment import align
    from stages.student.simrvos.model import ImageEncoder, SimRVOS, TextEncoder
    from stages.student.simrvos.student import SimRVOSStudent
    from stages.student.wsrvos.student import Wsrvos

    config = run.student
    if config.model == "groprompt":
        return _groprompt(run, device)

    def demo() -> tuple[ImageEncoder, TextEncoder]:
        grounder = load_model(GroundConfig(), device)
        pyramid = SwinPyramid()
        if config.initialise == "demo":
            pyramid.start_from(grounder)
        return pyramid, GroundingText(grounder)

    images, texts = build_encoders(config.encoders, demo, device)
    if config.model == "wsrvos":
        return Wsrvos(
            images, texts, config.wsrvos, channels=config.channels, short_side=config.short_side
        )
    network = SimRVOS(images, texts, config.channels, contrastive=config.blcl, fusion=config.fusion)
    if (
        config.initialise == "demo"
        and isinstance(images, SwinPyramid)
        and isinstance(texts, GroundingText)
    ):
        align(network, projection_of(texts.grounder))
    return SimRVOSStudent(network, config)


def _groprompt(run: RunConfig, device: torch.device) -> Student:
    from stages.ground.grounder import load_model
    from stages.ground.proposer import DecoderProposer
    from stages.segment.prompter import BoxPrompter
    from stages.segment.segmenter import load_sam
    from stages.student.groprompt.student import GroPrompt

    return GroPrompt(
        DecoderProposer(load_model(run.ground, device), run.ground),
        BoxPrompter(load_sam(run.segment, device), run.segment),
        run.student.groprompt,
    ).to(device)
