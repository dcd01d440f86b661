"""Losses that several trainings share."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import sigmoid_focal_loss


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


def mask_losses(logits: Tensor, target: Tensor, dice_weight: float, focal_weight: float) -> Tensor:
    """Returns L_MASK = 5 Dice + 2 Focal (eq 19) of each frame.

    The focal term is the mean over pixels, with alpha 0.25 and gamma 2, as in ReferFormer's loss.

    Args:
        logits: [N, H, W].
        target: bool [N, H, W]; all False teaches background.

    Returns:
        [N].
    """
    wanted = target.to(logits.dtype)
    focal: Tensor = sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2).mean((1, 2))
    return dice_weight * dice_loss(logits, wanted) + focal_weight * focal
