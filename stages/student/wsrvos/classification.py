"""Instance-aware expression classification (WSRVOS), after WSDDN (Bilen and Vedaldi, 2016).

Without masks, it is only known which sentences are true of a clip's target. A sentence's score is a
sum over proposals, so the gradient has to find where in the frame the sentence is true.

**Proposals.** A proposal is a cell of the map that the interaction works on. Boxes would need a
detector, and object queries would need boxes to learn from. Cells need neither and cover the frame,
and their scores are the coarse response that masks are made from.

**Negatives.** A hard negative often names another object of the video. To teach that it is true of
nothing would contradict that object's own samples, and the student would find neither object. If
the data set has the sentence, it is known to be true of another place. Its target is then 1, as for
the positives, and it shares no proposal with them, so each has to find a place of its own.

Letters: E expressions of one clip, T frames, n proposals of a frame.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor
from torch.nn import functional as F


class Role(IntEnum):
    """The role of a sentence in a clip."""

    POSITIVE = 0
    """True of the target."""
    NEGATIVE = 1
    """True of nothing in the clip, as far as is known."""
    ELSEWHERE = 2
    """True of something else in the clip."""


def expression_scores(which: Tensor, where: Tensor, roles: Tensor | None = None) -> Tensor:
    """Returns softmax over expressions times softmax over proposals, summed over proposals.

    Args:
        which: [E, T, n], how well each expression fits each proposal; softmax over E.
        where: [E, T, n], how likely each proposal is what the expression names; softmax over n.
        roles: int64 [E], values of :class:`Role`; None for the paper's formula, in which all E
            expressions share each proposal. With roles, an expression shares a proposal only with
            those of other roles, so that sentences of one target do not compete for it.

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
    """Returns the BCE of the mean score over frames; the target of a true expression is 1.

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
