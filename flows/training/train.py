"""Stage ``student`` of a run: trains on pseudo-masks, annotation or sentences, predicts a split."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from flows.context import RunContext
from flows.planning.fingerprints import student_basis
from flows.planning.mirrored import download, upload
from flows.planning.products import joined
from flows.training.build import clips_of, student_to_train
from flows.training.curves import TensorBoard, curves_markdown, write_curves
from flows.training.predict import How, made_by, predict_split
from flows.training.settle import settle
from pipeline.fingerprint import digest
from stages.common.checkpoints import WEIGHTS
from storage.files.atomic import explain_disk_errors, replace_file
from storage.run.ledger import Ledger
from storage.run.lock import check_held

if TYPE_CHECKING:
    import torch

    from stages.student.contract import Student
    from stages.student.training.fit import History
    from stages.student.training.train import Step
    from stages.student.training.world import World


@dataclass(frozen=True)
class Trained:
    """A trained student, and what it was trained on.

    Attributes:
        student: with the weights that predict.
        history: losses and measurements.
        samples: (video, expression) pairs that taught it.
    """

    student: Student
    history: History
    samples: int


def train_and_predict(context: RunContext, split: str) -> Counter[str]:
    """Trains the student of a run, writes its files, and replaces its predictions of a split.

    Args:
        split: to predict; its masks are not used.
    """

    def publish(history: History) -> None:
        name = context.paths.folder.name
        context.publish(name, curves_markdown(history, f"Training of {name}"))

    trained: Trained
    if context.train_elsewhere is None:
        trained = train_student(context, context.paths.student, publish=publish)
    else:
        trained = context.train_elsewhere(context.paths.student, publish)
    if context.paths.predictions.exists():
        with explain_disk_errors(context.paths.predictions):
            shutil.rmtree(context.paths.predictions)
    how = How(split)
    fingerprint = made_by(context, context.paths.student, how)
    counts = predict_split(context, trained.student, how, context.paths.predictions, fingerprint)
    counts.update({"samples": trained.samples, "steps": len(trained.history.steps)})
    (context.paths.student / CHECKPOINT).unlink(missing_ok=True)
    return counts


CHECKPOINT = "checkpoint.pt"


def train_student(
    context: RunContext,
    folder: Path,
    *,
    world: World | None = None,
    device: torch.device | None = None,
    publish: Callable[[History], None] = lambda history: None,
) -> Trained:
    """Trains the student of a configuration, or continues its training, and writes
    ``model.safetensors``, ``losses.csv``, ``curves.png`` and TensorBoard's event files.

    Args:
        folder: for its files, including ``checkpoint.pt`` until the caller removes it.
        world: the processes that train together. Only the first one writes.
        device: this process's; None for the context's.
        publish: called with the history at every checkpoint.

    Raises:
        PseudoLabelError: there is nothing to train on, or a file is damaged.
    """
    import torch
    from safetensors.torch import save

    from stages.student.training.fit import Checkpoints, fit
    from stages.student.training.train import Trainer
    from stages.student.training.world import ALONE

    config, world, place = context.config, world or ALONE, device or context.device
    student = config.student
    clips = clips_of(context)
    torch.manual_seed(config.seed)
    model = student_to_train(config, place)
    trainer = Trainer(model, clips, student, device=place, world=world)
    context.progress.begin("student: train", student.steps, "steps")
    if world.first:
        folder.mkdir(parents=True, exist_ok=True)
        download(folder / CHECKPOINT)

    @contextmanager
    def replace_held(path: Path) -> Iterator[IO[bytes]]:
        """Does what ``replace_file`` does, also in an object store, and raises LockLostError if the
        lock was lost."""
        check_held(folder)
        check_held(context.paths.folder)
        with replace_file(path) as file:
            yield file
        upload(path)

    with closing(_Told(context, folder, publish, world.first)) as told:
        history = fit(
            trainer,
            student.training,
            checkpoints=Checkpoints(folder / CHECKPOINT, identity_of(context), replace_held),
            measure=measure_of(context, place) if student.training.validate_every else None,
            world=world,
            device=place,
            tell=told,
        )
    context.progress.end(f"loss {np.mean(history.losses[-20:]):.3f}")
    if world.first:
        settle(context, model)
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        with replace_held(folder / WEIGHTS) as file:
            file.write(save(tensors))
        write_curves(folder, history)
        publish(history)
    return Trained(model, history, clips.samples)


class _Told:
    """Reports every step to the terminal and TensorBoard, and every checkpoint to Prefect.

    Args:
        context: of the run.
        folder: of the student's files.
        publish: called with the history at every checkpoint.
        writes: whether this process writes files.
    """

    def __init__(
        self, context: RunContext, folder: Path, publish: Callable[[History], None], writes: bool
    ) -> None:
        self._context, self._folder, self._publish, self._writes = context, folder, publish, writes
        self._every = context.config.student.training.checkpoint_every
        self._board: TensorBoard | None = None

    def __call__(self, step: Step, history: History) -> None:
        if self._writes:
            if self._board is None:
                self._board = self._opened(step.number)
            self._board.add(step, history)
            if len(history.steps) % self._every == 0:
                self._publish(history)
        self._context.progress.advance(1, step.frames)

    def _opened(self, step: int) -> TensorBoard:
        """Opens TensorBoard's files from a step on, and removes those of another training."""
        place = self._folder / "tensorboard"
        if step == 0:
            shutil.rmtree(place, ignore_errors=True)
        self._context.progress.done_before(step)
        return TensorBoard(place, step)

    def close(self) -> None:
        """Writes what is left."""
        if self._board is not None:
            self._board.close()


def identity_of(context: RunContext) -> str:
    """Returns a digest of everything a student depends on: its configuration and the run's
    products."""
    ledger = Ledger(context.paths.folder)
    made_from = {
        stage: joined({receipt.shard: receipt.product for receipt in ledger.each(stage)})
        for stage in ("augment", "rank")
    }
    basis = student_basis(context.config, context.weight_digests().of_checkpoint)
    return digest({"student": basis, "made_from": made_from})


def measure_of(context: RunContext, device: torch.device) -> Callable[[Student], float]:
    """Measures J&F, in percent, on the first videos of the split that the configuration names.

    Raises:
        ConfigError: that split has no ground truth.
    """
    from flows.training.validation import Validation

    config = context.config.student.training
    reader = context.reader(config.validate_split)
    return Validation(reader, config.validate_videos, device)
