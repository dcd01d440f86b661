"""Temporal segment ranking (WSRVOS) as a loss: overlaps fall with the distance in time.

The published code takes the IoU of thresholded masks, which has no gradient; here it is that of
probabilities, which has.

Letters: T frames of one clip, h w cells.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor


def soft_iou(chance: Tensor) -> Tensor:
    """IoU of every pair of frames: sum p q / sum (p + q - p q).

    Args:
        chance: [T, h, w], probabilities.

    Returns:
        [T, T] in [0, 1], symmetric; of masks of zeros and ones it is the IoU, and of two empty
        ones 0.
    """
    flat = chance.flatten(1)
    shared = flat @ flat.T
    area = flat.sum(1)
    iou: Tensor = shared / (area[:, None] + area - shared).clamp(min=1e-6)
    return iou


def ranking_loss(logits: Tensor, tolerance: float) -> Tensor:
    """L_tmp = mean over t < l < n of ReLU(IoU(M_t, M_n) - IoU(M_t, M_l) - tolerance).

    Args:
        logits: [T, h, w], of frames in their order.
        tolerance: epsilon.

    Returns:
        One value; 0 of fewer than three frames, which have no triple.
    """
    triples = torch.tensor(list(combinations(range(len(logits)), 3)), device=logits.device)
    if not len(triples):
        return logits.sum() * 0
    iou = soft_iou(logits.sigmoid())
    first, middle, last = triples.T
    return (iou[first, last] - iou[first, middle] - tolerance).relu().mean()
