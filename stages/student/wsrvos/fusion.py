"""Positive-prediction fusion (WSRVOS): what a clip's sentences agree on is its pseudo-mask.

Letters: K positives of one clip, T frames, h w cells.
"""

from __future__ import annotations

from torch import Tensor


def fuse_positives(logits: Tensor, confidence: Tensor) -> Tensor:
    """sum_k w_k s_kt with w_k = c_k / sum_j c_j.

    Args:
        logits: [K, T, h, w].
        confidence: [K], c, above 0; 1 for the original.

    Returns:
        Logits [T, h, w].
    """
    weight = confidence / confidence.sum()
    return (weight[:, None, None, None] * logits).sum(0)


def pseudo_masks(fused: Tensor, threshold: float) -> Tensor:
    """M_t = [sigmoid(fused) > threshold], bool of the shape of ``fused``; it has no gradient."""
    return fused.detach().sigmoid() > threshold
