"""Temporal segment ranking (WSRVOS) as a loss: overlaps must fall with temporal distance.

The published code uses the IoU of thresholded masks, which has no gradient. Here it is that of
probabilities.

Letters: T frames of one clip, h w cells.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def soft_iou(chance: Tensor) -> Tensor:
    """Returns the soft IoU of every pair of frames: sum p q / sum (p + q - p q).

    Args:
        chance: [T, h, w], probabilities.

    Returns:
        [T, T] in [0, 1], symmetric. For masks of zeros and ones it is the IoU, and 0 if both are
        empty.
    """
    flat = chance.flatten(1)
    shared = flat @ flat.T
    area = flat.sum(1)
    iou: Tensor = shared / (area[:, None] + area - shared).clamp(min=1e-6)
    return iou


def ranking_loss(logits: Tensor, tolerance: float) -> Tensor:
    """Returns L_tmp, the mean over t < l < n of ReLU(IoU(M_t, M_n) - IoU(M_t, M_l) - tolerance).

    Args:
        logits: [T, h, w], of consecutive frames.
        tolerance: epsilon.

    Returns:
        A scalar; 0 for fewer than three frames.
    """
    triples = torch.tensor(list(combinations(range(len(logits)), 3)), device=logits.device)
    if not len(triples):
        return logits.sum() * 0
    iou = soft_iou(logits.sigmoid())
    first, middle, last = triples.T
    return (iou[first, last] - iou[first, middle] - tolerance).relu().mean()
