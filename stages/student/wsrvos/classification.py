"""Instance-aware expression classification (WSRVOS), after WSDDN (Bilen and Vedaldi, 2016).

What is known of a clip without any mask is which sentences are true of its target. A sentence's
score is a sum over proposals, so that the gradient has to say where in the frame it is true.

**What a proposal is.** A cell of the map that the interaction works on. Boxes would need a
detector, and object queries would need boxes to learn from; cells need neither, cover the frame,
and the proposal scores are then themselves the coarse response that masks are made from.

Letters: E expressions of one clip, T frames, n proposals of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def expression_scores(which: Tensor, where: Tensor, positives: Tensor | None = None) -> Tensor:
    """Softmax over expressions times softmax over proposals, summed over proposals.

    Args:
        which: [E, T, n], how well each expression fits each proposal; softmax over E.
        where: [E, T, n], how likely each proposal is what the expression names; softmax over n.
        positives: bool [E]; None for the formula as it stands, where all E share each proposal.
            Given, a positive shares a proposal with the negatives alone: sentences of one target
            are true of the same place, and need not take it from each other.

    Returns:
        [E, T] in [0, 1].
    """
    if positives is None:
        share = which.softmax(0)
    else:
        own = which.masked_fill(~positives[:, None, None], float("-inf"))
        others = which.masked_fill(positives[:, None, None], float("-inf"))
        rivals = torch.cat([others, which.new_full((1, *which.shape[1:]), -1e4)]).logsumexp(0)
        against_rivals = (which - torch.logaddexp(which, rivals)).exp()
        # A negative is up against the other negatives and the strongest positive.
        everyone = torch.logaddexp(rivals, own.amax(0))
        against_all = (which - everyone).exp()
        share = torch.where(positives[:, None, None], against_rivals, against_all)
    return (share * where.softmax(-1)).sum(-1)


def classification_loss(scores: Tensor, positives: Tensor) -> Tensor:
    """BCE of the mean over frames: positives (the original among them) are 1, negatives 0.

    Args:
        scores: [E, T] in [0, 1].
        positives: bool [E].

    Returns:
        The mean over the E expressions.
    """
    with torch.autocast(scores.device.type, enabled=False):
        mean = scores.mean(1).to(torch.promote_types(scores.dtype, torch.float32))
        mean = mean.clamp(1e-6, 1 - 1e-6)  # sums of shares may pass 1 by rounding
        return F.binary_cross_entropy(mean, positives.to(mean.dtype))
