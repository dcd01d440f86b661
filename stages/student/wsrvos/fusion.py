"""Positive-prediction fusion (WSRVOS): a clip's pseudo-mask from all of its positives.

Letters: K positives of one clip, T frames, h w cells.
"""

from __future__ import annotations

from torch import Tensor


def fuse_positives(logits: Tensor, confidence: Tensor) -> Tensor:
    """Returns sum_k w_k s_kt with w_k = c_k / sum_j c_j.

    Args:
        logits: [K, T, h, w].
        confidence: [K], c, above 0; 1 for the original.

    Returns:
        Logits [T, h, w].
    """
    weight = confidence / confidence.sum()
    return (weight[:, None, None, None] * logits).sum(0)


def pseudo_masks(fused: Tensor, threshold: float) -> Tensor:
    """Returns M_t = [sigmoid(fused) > threshold], of the shape of ``fused``, without gradient."""
    return fused.detach().sigmoid() > threshold
