"""Losses that several trainings share."""

from __future__ import annotations

from torch import Tensor


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Returns 1 - Dice of each mask, with 1 added to numerator and denominator: [N].

    Args:
        logits: [N, H, W].
        target: float [N, H, W], 0 or 1; a mask of zeros teaches background.
    """
    chance = logits.sigmoid()
    shared = (chance * target).sum((1, 2))
    loss: Tensor = 1 - (2 * shared + 1) / (chance.sum((1, 2)) + target.sum((1, 2)) + 1)
    return loss
