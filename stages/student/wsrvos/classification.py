"""Instance-aware expression classification (WSRVOS), after WSDDN (Bilen and Vedaldi, 2016).

What is known of a clip without any mask is which sentences are true of its target. A sentence's
score is a sum over proposals, so that the gradient has to say where in the frame it is true.

**What a proposal is.** A cell of the map that the interaction works on. Boxes would need a
detector, and object queries would need boxes to learn from; cells need neither, cover the frame,
and the proposal scores are then themselves the coarse response that masks are made from.

**What a negative is.** A hard negative often names another object of the video. To teach that it
is true of nothing would contradict that object's own samples, and a student that is taught both
finds neither. Where the data set itself has the sentence, it is known to be true, elsewhere: it is
1 as the positives are, and shares no proposal with them, so that each has to find a place of its
own.

Letters: E expressions of one clip, T frames, n proposals of a frame.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F


class Role(IntEnum):
    """What a sentence of a clip is there for."""

    POSITIVE = 0
    """True of the target."""
    NEGATIVE = 1
    """True of nothing in the clip, as far as is known."""
    ELSEWHERE = 2
    """True of something else in the clip."""


def expression_scores(which: Tensor, where: Tensor, roles: Tensor | None = None) -> Tensor:
    """Softmax over expressions times softmax over proposals, summed over proposals.

    Args:
        which: [E, T, n], how well each expression fits each proposal; softmax over E.
        where: [E, T, n], how likely each proposal is what the expression names; softmax over n.
        roles: of :class:`Role`, int64 [E]; None for the formula as it stands, where all E share
            each proposal. Given, an expression shares a proposal with those of other roles alone:
            sentences of one target are true of the same place, and need not take it from each
            other.

    Returns:
        [E, T] in [0, 1].
    """
    if roles is None:
        share = which.softmax(0)
    else:
        nothing = which.new_full((1, *which.shape[1:]), -1e4)
        own = roles[:, None, None]
        rivals = torch.stack(
            [
                torch.cat([which.masked_fill(own == role, float("-inf")), nothing]).logsumexp(0)
                for role in Role
            ]
        )[roles]
        share = (which - torch.logaddexp(which, rivals)).exp()
    return (share * where.softmax(-1)).sum(-1)


def classification_loss(scores: Tensor, true: Tensor) -> Tensor:
    """BCE of the mean over frames: an expression that is true of anything in the clip is 1.

    Args:
        scores: [E, T] in [0, 1].
        true: bool [E].

    Returns:
        The mean over the E expressions.
    """
    with torch.autocast(scores.device.type, enabled=False):
        mean = scores.mean(1).to(torch.promote_types(scores.dtype, torch.float32))
        mean = mean.clamp(1e-6, 1 - 1e-6)  # sums of shares may pass 1 by rounding
        return F.binary_cross_entropy(mean, true.to(mean.dtype))
