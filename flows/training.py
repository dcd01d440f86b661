"""Stage ``student`` of a run: trains on pseudo-masks, annotation or sentences, predicts a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.curves import TensorBoard, curves_markdown, write_curves
from flows.fingerprints import base_of
from flows.products import joined
from flows.sentences import StoredSentences
from flows.weight_digests import WeightDigests
from flows.workshop import Workshop
from pipeline.config import StudentConfig
from pipeline.errors import ConfigError, InputError
from pipeline.fingerprint import digest
from pipeline.ports import DatasetReader, MaskSource
from pipeline.types import PseudoMask, Status, VideoRef
from storage.atomic import replace_file
from storage.datasets.weak import WeakView
from storage.ledger import Ledger
from storage.masks import MaskStore

if TYPE_CHECKING:
    import torch

    from stages.student.clips import Clips
    from stages.student.contract import Student
    from stages.student.fit import History
    from stages.student.supervision import SupervisionSource
    from stages.student.train import Step
    from stages.student.world import World


@dataclass(frozen=True)
class Trained:
    """A student that has been trained, and what it was trained on.

    Attributes:
        student: with the weights that predict.
        history: losses and measurements.
        samples: (video, expression) pairs that taught it.
    """

    student: Student
    history: History
    samples: int


def train_and_predict(shop: Workshop, split: str) -> Counter[str]:
    """Trains the student of a run, writes its files, and predicts a split.

    Args:
        split: what is predicted; its masks are used nowhere.
    """

    def publish(history: History) -> None:
        if shop.observer is not None:
            from flows import artifacts

            name = shop.paths.folder.name
            page = curves_markdown(history, f"Training of {name}")
            shop.observer.tell(lambda: artifacts.curves_page(page, name))

    trained = train_student(shop, shop.paths.student, publish=publish)
    counts = predict_split(shop, trained.student, split, shop.paths.predictions)
    counts.update({"samples": trained.samples, "steps": len(trained.history.steps)})
    (shop.paths.student / CHECKPOINT).unlink(missing_ok=True)
    return counts


CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"


def train_student(
    shop: Workshop,
    folder: Path,
    *,
    world: World | None = None,
    device: torch.device | None = None,
    publish: Callable[[History], None] = lambda history: None,
) -> Trained:
    """Trains the student of a configuration, or goes on where it was cut off, and writes
    ``model.safetensors``, ``losses.csv``, ``curves.png`` and TensorBoard's event files.

    Args:
        folder: where its files go; ``checkpoint.pt`` among them until the caller removes it.
        world: the processes that train together; only the first writes.
        device: this process's; None for the shop's.
        publish: told the history with every checkpoint.

    Raises:
        PseudoLabelError: there is nothing to train on, or a file is damaged.
    """
    import torch
    from safetensors.torch import save

    from stages.student.fit import Checkpoints, fit
    from stages.student.train import Trainer
    from stages.student.world import ALONE

    config, world, place = shop.config, world or ALONE, device or shop.device
    student = config.student
    clips = clips_of(shop)
    torch.manual_seed(config.seed)
    model = build_student(student, place)
    trainer = Trainer(model, clips, student, device=place, world=world)
    every = student.training.checkpoint_every
    checkpoints = Checkpoints(folder / CHECKPOINT, identity_of(shop), replace_file)
    shop.progress.begin("student: train", student.steps, "steps")
    with ExitStack() as open_files:
        board: list[TensorBoard] = []

        def tell(step: Step, history: History) -> None:
            if world.first:
                if not board:
                    events = TensorBoard(folder / "tensorboard", step.number)
                    board.append(open_files.enter_context(events))
                    shop.progress.advance(step.number)
                board[0].add(step, history)
                if trainer.step % every == 0:
                    publish(history)
            shop.progress.advance(1, step.frames)

        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
        history = fit(
            trainer,
            student.training,
            checkpoints=checkpoints,
            measure=measure_of(shop, place) if student.training.validate_every else None,
            world=world,
            device=place,
            tell=tell,
        )
    shop.progress.end(f"loss {np.mean(history.losses[-20:]):.3f}")
    if world.first:
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        with replace_file(folder / WEIGHTS) as file:
            file.write(save(tensors))
        write_curves(folder, history)
        publish(history)
    return Trained(model, history, clips.samples)


def identity_of(shop: Workshop) -> str:
    """Digest of all that a student follows from: its configuration, and the run's products."""
    ledger, folder = Ledger(shop.paths.folder), shop.paths.folder
    weights = WeightDigests(folder / "ledger" / "weights.json", shop.parts.weight_files, False)
    made_from = {
        stage: joined({receipt.shard: receipt.product for receipt in ledger.receipts(stage)})
        for stage in ("augment", "rank")
    }
    basis = base_of("student", shop.config, weights.of_checkpoint)
    return digest({"student": basis, "made_from": made_from})


def clips_of(shop: Workshop, masks: MaskSource | None = None) -> Clips:
    """What the student of a configuration is shown.

    Args:
        masks: in place of the run's.

    Raises:
        PseudoLabelError: nothing is known of any frame.
    """
    from stages.student.clips import Clips, Shape

    config = shop.config.student
    wants_text = config.model == "wsrvos"
    return Clips(
        shop.reader(),
        supervision_of(config, shop.reader(), masks or masks_to_train_on(shop)),
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


def masks_to_train_on(shop: Workshop) -> MaskStore:
    """The run's masks, or those that the configuration names in their place.

    Raises:
        ConfigError: there are none.
    """
    store = MaskStore(shop.config.student.masks or shop.paths.masks)
    if not store.videos():
        raise ConfigError(
            f"{store.path}: no masks; expected a mask store; `pseudolabels run` makes a run's, and"
            " `pseudolabels predict --to STORE.zarr` a student's"
        )
    return store


def supervision_of(
    config: StudentConfig, reader: DatasetReader, masks: MaskSource
) -> SupervisionSource:
    """What a student is taught by: the pseudo-masks, or the annotation of the same samples."""
    from stages.student.supervision import Annotations, PseudoMasks, SentencesAlone

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
            return SentencesAlone(masks)


def build_student(config: StudentConfig, device: torch.device) -> Student:
    """A student with the encoders of its configuration; the demo's are the demo grounder's, the
    text encoder frozen, the image encoder its own, started from the grounder's or from nothing.

    Raises:
        CheckpointError: an encoder's weights are missing or of another model.
    """
    from pipeline.config import GroundConfig
    from stages.ground.encoders import GroundingText, SwinPyramid, projection_of
    from stages.ground.grounder import load_model
    from stages.student.alignment import align
    from stages.student.encoders import build_encoders
    from stages.student.model import ImageEncoder, SimRVOS, TextEncoder
    from stages.student.simrvos import SimRVOSStudent
    from stages.student.wsrvos.student import Wsrvos

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
    network = SimRVOS(images, texts, config.channels, contrastive=config.blcl)
    if (
        config.initialise == "demo"
        and isinstance(images, SwinPyramid)
        and isinstance(texts, GroundingText)
    ):
        align(network, projection_of(texts.grounder))
    return SimRVOSStudent(network, config)


def measure_of(shop: Workshop, device: torch.device) -> Callable[[Student], float]:
    """Measures J&F, in percent, on the first videos of the split that the configuration names.

    Raises:
        ConfigError: that split has no truth.
    """
    from flows.validation import Validation

    config = shop.config.student.training
    reader = shop.reader(config.validate_split)
    return Validation(reader, config.validate_videos, device)


def predict_split(
    shop: Workshop, student: Student, split: str, place: Path, made_by: str = "student"
) -> Counter[str]:
    """Predicts the videos of a split into a mask store; one that cannot be read is set aside.

    Args:
        made_by: fingerprint that the masks bear.
    """
    reader, counts = shop.reader(split), Counter[str]()
    ids = reader.video_ids()
    store = MaskStore(place)
    shop.progress.begin("student: predict", len(ids), "videos")
    for video_id in ids:
        try:
            found = _predict_video(shop, student, split, reader.video(video_id), made_by)
            store.write_video(*found)
            counts["videos predicted"] += 1
        except InputError as error:
            shop.progress.say(f"set aside: {error}")
            counts["videos set aside"] += 1
        shop.progress.advance(1)
    shop.progress.end()
    return counts


def _predict_video(
    shop: Workshop, student: Student, split: str, video: VideoRef, made_by: str
) -> tuple[VideoRef, list[str], list[PseudoMask]]:
    from stages.student.predict import predict_video

    reader = shop.reader(split)
    expressions = reader.expressions(video.id)
    shape = (len(expressions), len(video))
    masks = np.zeros((*shape, video.height, video.width), np.bool_)
    sure = np.zeros(shape, np.float32)
    texts = [item.text for item in expressions]
    for part in predict_video(student, reader, video, texts, shop.device):
        masks[:, part.frames], sure[:, part.frames] = part.masks, part.sure
    seen = masks.any((2, 3))
    status = np.where(seen, Status.PRESENT, Status.ABSENT).astype(np.uint8)
    found = [
        PseudoMask(item.key, masks[row], sure[row], status[row], made_by)
        for row, item in enumerate(expressions)
    ]
    return video, texts, found
