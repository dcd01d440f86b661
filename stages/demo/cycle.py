"""Trains with AdamW, a warm-up, and a cosine schedule down to a fiftieth of the rate."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

StepLoss = Callable[[], tuple[Tensor, dict[str, float]]]
"""Draws a batch and gives its loss, with figures to print beside it."""


@dataclass(frozen=True)
class Recipe:
    """What a cycle is run with.

    Attributes:
        rate: peak learning rate.
        warm_steps: steps in which it rises from nothing.
        clip: largest norm of a step's gradient.
    """

    rate: float
    warm_steps: int
    clip: float = 1.0
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)


def run_cycle(
    step_loss: StepLoss, weights: Iterable[nn.Parameter], steps: int, recipe: Recipe
) -> None:
    """Trains weights in place for ``steps`` steps; logs every fiftieth."""
    trained = [weight for weight in weights if weight.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, lr=recipe.rate, weight_decay=recipe.weight_decay, betas=recipe.betas
    )

    def share(step: int) -> float:
        warm = min(1.0, (step + 1) / recipe.warm_steps)
        return warm * (0.02 + 0.49 * (1 + math.cos(math.pi * step / max(1, steps))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, share)
    began = time.monotonic()
    for step in range(steps):
        loss, parts = step_loss()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.clip)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            figures = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            logger.info("step %d of %d, %s, %.0f s", step, steps, figures, time.monotonic() - began)
