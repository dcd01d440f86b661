"""Trains a student to the end, with checkpoints, validation and early stopping."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config import TrainingConfig
from pipeline.errors import CheckpointError
from stages.student.contract import Student
from stages.student.training.train import Step, Trainer
from stages.student.training.world import ALONE, World

FORMAT = 1


@dataclass
class History:
    """The progress of a training.

    Attributes:
        steps: the terms of the loss of every step, by name.
        scores: (step, J&F) of every measurement, with steps counted from 1.
        best: the highest score, and the weights that had it.
    """

    steps: list[dict[str, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    best: tuple[float, dict[str, Tensor]] | None = None

    @property
    def losses(self) -> list[float]:
        """Loss of every step."""
        return [sum(terms.values()) for terms in self.steps]

    @property
    def names(self) -> list[str]:
        """Names of the terms of the loss."""
        return sorted({name for terms in self.steps for name in terms})

    def since_best(self) -> int:
        """Number of measurements since the best one."""
        values = [score for _, score in self.scores]
        return len(values) - 1 - values.index(max(values)) if values else 0


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint that a training resumes from.

    Attributes:
        path: the file.
        identity: digest of everything that the training depends on.
        replace: opens a file that replaces the path once it is complete.
    """

    path: Path
    identity: str
    replace: Callable[[Path], Any]

    def write(self, trainer: Trainer, history: History) -> None:
        """Replaces the checkpoint.

        Raises:
            StoreError: the disk is full.
        """
        state = {
            "format": FORMAT,
            "identity": self.identity,
            "trainer": trainer.state(),
            "history": asdict(history),
        }
        whole = io.BytesIO()
        torch.save(state, whole)
        with self.replace(self.path) as file:
            file.write(whole.getbuffer())

    def read(self) -> Mapping[str, Any] | None:
        """Returns the state; None if there is none, or if it is of another training.

        Raises:
            CheckpointError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            state: Mapping[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            fits = state["format"] == FORMAT and state["identity"] == self.identity
        except Exception as error:
            raise CheckpointError(
                self.path,
                f"it does not load ({str(error).splitlines()[0][:120] if str(error) else error!r})",
                "a checkpoint of this training",
                "remove the file; training then starts over",
            ) from error
        return state if fits else None


Measure = Callable[[Student], float]
"""Measures a student that is ready to predict: J&F in percent."""


def fit(
    trainer: Trainer,
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    measure: Measure | None = None,
    world: World = ALONE,
    device: torch.device | None = None,
    tell: Callable[[Step, History], None] = lambda step, history: None,
) -> History:
    """Trains until the last step, or until patience ends.

    The student is then ready to predict, with the best weights that were measured, else with the
    moving average, else with the last weights.

    Args:
        checkpoints: None trains from the start and writes none.
        measure: measures J&F, in the first process only; None measures nothing.
        tell: called after every step, when its measurement and its checkpoint are done.
    """
    history = _restored(trainer, checkpoints)
    place = device or torch.device("cpu")
    if not _patience_ended(history, config):
        for step in trainer.steps():
            history.steps.append(dict(step.terms))
            due = config.validate_every and trainer.step % config.validate_every == 0
            if measure is not None and due:
                _measure(trainer, history, measure, world, place)
            ended = _patience_ended(history, config)
            kept = ended or trainer.step % config.checkpoint_every == 0
            if checkpoints is not None and world.first and kept:
                checkpoints.write(trainer, history)
            tell(step, history)
            if ended:
                break
    _leave_the_best(trainer, history)
    return history


def _restored(trainer: Trainer, checkpoints: Checkpoints | None) -> History:
    state = None if checkpoints is None else checkpoints.read()
    if state is None:
        return History()
    trainer.restore(state["trainer"])
    kept = state["history"]
    scores = [(int(step), float(score)) for step, score in kept["scores"]]
    return History(list(kept["steps"]), scores, kept["best"])


def _measure(
    trainer: Trainer, history: History, measure: Measure, world: World, device: torch.device
) -> None:
    score = float("-inf")
    with trainer.averaged() as student:
        if world.first:
            score = measure(student)
        score = world.agreed(score, device)
        history.scores.append((trainer.step, score))
        if history.best is None or score > history.best[0]:
            weights = {n: v.detach().cpu().clone() for n, v in student.state_dict().items()}
            history.best = (score, weights)


def _patience_ended(history: History, config: TrainingConfig) -> bool:
    return bool(config.patience) and history.since_best() >= config.patience


def _leave_the_best(trainer: Trainer, history: History) -> None:
    trainer.student.eval()
    if history.best is not None:
        trainer.student.load_state_dict(history.best[1])
        return
    with trainer.averaged() as student:
        weights = {n: v.detach().clone() for n, v in student.state_dict().items()}
    trainer.student.load_state_dict(weights)
