"""Trains a student step by step.

On a CPU, a training that resumes from :meth:`Trainer.state` gives the same bits as one that was not
interrupted: a step's clips depend on its number, and the rest is in the state. On a GPU, kernels
that sum in no fixed order change the last bits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.config import StudentConfig, TrainingConfig
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.joined import Draws
from stages.student.data.loading import clips_of_steps
from stages.student.training.world import ALONE, World


@dataclass(frozen=True)
class Step:
    """The result of one optimiser step, over all processes.

    Attributes:
        number: from 0.
        frames: frames that the student saw, each counted once per sentence.
        terms: terms of the loss by name; their sum is the loss.
        rate: learning rate of all parameters but the image encoder's.
    """

    number: int
    frames: int
    terms: Mapping[str, float]
    rate: float

    @property
    def loss(self) -> float:
        return sum(self.terms.values())


class Trainer:
    """Trains one student.

    Args:
        student: moved to the device.
        clips: the clips that it sees.
        config: steps, learning rates and sizes.
        device: device of the training.
        world: the processes that share every step.

    Raises:
        ConfigError: the clips of a step do not divide among the processes.
    """

    def __init__(
        self,
        student: Student,
        clips: Draws,
        config: StudentConfig,
        *,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self.student: Student = student.to(device)
        self.step = 0
        self._clips, self._config, self._device, self._world = clips, config, device, world
        if not config.backbone_learning_rate:
            _freeze_image_encoder(student)
        self._optimiser = torch.optim.AdamW(_groups(student, config))
        how: TrainingConfig = config.training
        self._dtype = getattr(torch, how.dtype)
        self._scaler = torch.amp.GradScaler(device.type, enabled=how.dtype == "float16")
        self._average: list[Tensor] | None = None
        if how.ema_decay:
            self._average = [weight.detach().clone() for weight in student.parameters()]
        self._whole: Any = student
        if world.size > 1:
            places = [device.index] if device.type == "cuda" else None
            # Not every clip has what every part of a student learns from.
            self._whole = DistributedDataParallel(
                student, device_ids=places, find_unused_parameters=True
            )

    def steps(self) -> Iterator[Step]:
        """Takes the remaining steps and yields each when it is done."""
        config = self._config
        batches = clips_of_steps(
            self._clips,
            range(self.step, config.steps),
            config.clips_per_step,
            world=self._world,
            workers=config.training.workers,
        )
        for clips in batches:
            self.student.train()
            done = self.take(clips)
            self.step += 1
            yield done

    @contextmanager
    def averaged(self) -> Iterator[Student]:
        """Yields the student ready to predict, with the moving average of its weights if there is
        one.
        """
        average, self._average = self._average, None
        weights = list(self.student.parameters())
        kept = [weight.detach().clone() for weight in weights] if average else []
        try:
            if average:
                _copy(average, weights)
            self.student.eval()
            yield self.student
        finally:
            if average:
                _copy(kept, weights)
            self._average = average

    def state(self) -> dict[str, Any]:
        """Returns everything that the training resumes from.

        It holds tensors and plain values only, so that ``torch.load`` reads it with
        ``weights_only``.
        """
        cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return {
            "step": self.step,
            "student": self.student.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._average,
            "random": torch.get_rng_state(),
            "random_cuda": cuda,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resumes from the state of a trainer of the same configuration."""
        self.step = int(state["step"])
        self.student.load_state_dict(state["student"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average = [value.to(self._device) for value in state["average"]]
        torch.set_rng_state(state["random"].cpu())
        if state["random_cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self._device)

    def take(self, clips: Sequence[Clip]) -> Step:
        """Takes one optimiser step on clips."""
        config = self._config
        rate = config.learning_rate * rate_of(self.step, config.steps, config.training)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial"] * rate / config.learning_rate
        frames = sum(len(clip.images) for clip in clips)
        size, all_frames = self._size(clips, frames)
        parts = self._backward(clips, size)
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self.student.parameters(), config.training.max_grad_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self._average is not None:
            blend: Any = get_ema_multi_avg_fn(config.training.ema_decay)
            blend(self._average, [w.detach() for w in self.student.parameters()], None)
        terms = _summed(parts)
        names = sorted(terms)
        summed = self._world.total([terms[name] for name in names], self._device)
        return Step(self.step, all_frames, dict(zip(names, summed, strict=True)), rate)

    def _size(self, clips: Sequence[Clip], frames: int) -> tuple[StepSize, int]:
        weight = float(sum(clip.weight.sum() for clip in clips))
        count, weight, shown = self._world.total([len(clips), weight, frames], self._device)
        # Sentences alone have no frame of any weight.
        return StepSize(int(count), weight or 1.0), int(shown)

    def _backward(self, clips: Sequence[Clip], size: StepSize) -> list[tuple[str, Tensor]]:
        """Adds up the gradients of the step, part by part; returns the terms of each part."""
        epoch = self.step * self._config.clips_per_step // len(self._clips)
        self._optimiser.zero_grad()
        terms: list[tuple[str, Tensor]] = []
        parts = _parts(clips, self._config.training.gradient_accumulation_steps)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            alone = self._world.size == 1 or last
            with nullcontext() if alone else self._whole.no_sync():
                with self._precision():
                    found = self._whole(part, size, epoch)
                loss = torch.stack([value.float() for value in found.values()]).sum()
                # Gradients are averaged over the processes; the parts of a loss are to be summed.
                self._scaler.scale(loss * self._world.size).backward()
            terms += [(name, value.detach().float()) for name, value in found.items()]
        return terms

    def _precision(self) -> Any:
        if self._dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)


def _summed(parts: Sequence[tuple[str, Tensor]]) -> dict[str, float]:
    """Returns the sum of each term over all parts.

    All are read from the device at once, since each read waits for it.
    """
    terms: defaultdict[str, float] = defaultdict(float)
    values = torch.stack([value for _, value in parts]).tolist()
    for (name, _), value in zip(parts, values, strict=True):
        terms[name] += value
    return terms


def rate_of(step: int, steps: int, config: TrainingConfig) -> float:
    """Returns a step's share of the learning rate: warm-up, then cosine or milestones.

    Args:
        step: from 0.
        steps: number of steps of the training.
    """
    warm = min(1.0, (step + 1) / max(1.0, config.warm_up * steps))
    if config.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * step / steps))
    passed = sum(step >= round(share * steps) for share in config.milestones)
    return float(warm * 0.1**passed)


def _freeze_image_encoder(student: Student) -> None:
    """Turns the gradients of the image encoder off."""
    for name, weight in student.named_parameters():
        if "image_encoder." in name:
            weight.requires_grad_(False)


def _groups(student: Student, config: StudentConfig) -> list[dict[str, Any]]:
    """Returns the parameters of the image encoder and the others, with their learning rates."""
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, weight in student.named_parameters():
        if weight.requires_grad:
            (encoder if "image_encoder." in name else rest).append(weight)
    rates = ((rest, config.learning_rate), (encoder, config.backbone_learning_rate))
    return [
        {"params": weights, "lr": rate, "initial": rate, "weight_decay": config.weight_decay}
        for weights, rate in rates
    ]


def _parts(clips: Sequence[Clip], count: int) -> list[Sequence[Clip]]:
    """Splits clips into up to ``count`` parts. Clips that share their frames stay together."""
    draws: dict[int, list[Clip]] = {}
    for clip in clips:
        draws.setdefault(id(clip.images), []).append(clip)
    groups = list(draws.values())
    count = min(count, len(groups))
    bounds = [len(groups) * number // count for number in range(count + 1)]
    return [
        [clip for group in groups[low:high] for clip in group] for low, high in pairwise(bounds)
    ]


@torch.no_grad()
def _copy(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    for value, weight in zip(values, into, strict=True):
        weight.copy_(value)
