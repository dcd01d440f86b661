"""Language-guided cross-frame segmentation (SimRVOS, arXiv 2308.02162, eqs 7 to 9); training only.

The filters of frame tau must find the target in frame t too, so that they encode the sentence and
not what is specific to one frame.

Letters: T frames of a clip, K filters, C channels, h w cells of a feature map, P = T (T - 1)
ordered pairs of distinct frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.student.simrvos.model import DYNAMIC_CHANNELS, filter_sizes, with_coordinates


def cross_frame_logits(features: Tensor, theta: Tensor) -> Tensor:
    """Returns M^{t<-tau} = conv(F_ENH^t; f_theta^tau) for every t and tau (eq 7).

    The filters of all frames are applied in one product, without a copy of the feature maps.

    Args:
        features: [T, C, h, w], F_ENH, or F_FPN without BLCL.
        theta: [K, n], the dynamic filters of K frames, as :func:`filter_sizes` lays them out.

    Returns:
        Logits [T, K, h, w]. If theta is of the same frames, the diagonal is eq 5.
    """
    size = features.shape[-2], features.shape[-1]
    cells = with_coordinates(features).flatten(2)
    weight_1, bias_1, weight_2, bias_2 = theta.split(filter_sizes(features.shape[1]), dim=1)
    stacked = weight_1.reshape(-1, cells.shape[1])
    inner = (stacked @ cells / math.sqrt(cells.shape[1])).unflatten(1, (-1, DYNAMIC_CHANNELS))
    inner = (inner + bias_1[..., None]).relu()
    flat = torch.einsum("kd,tkdn->tkn", weight_2, inner) + bias_2
    logits: Tensor = flat.unflatten(2, size)
    return logits


def cross_frame_pairs(features: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the logits of eq 7 for tau != t, and the frame t that supervises each (eqs 8, 9).

    Args:
        features: [T, C, h, w] of one clip.
        theta: [T, n] of the same frames.

    Returns:
        Logits [P, h, w], ordered by t and then tau, and t as int64 [P]; P is 0 for one frame.
    """
    frames = len(features)
    apart = ~torch.eye(frames, dtype=torch.bool, device=features.device)
    logits = cross_frame_logits(features, theta)[apart]
    return logits, torch.arange(frames, device=features.device).repeat_interleave(frames - 1)


def cross_frame_losses(losses: Tensor, frame: Tensor, frames: int) -> Tensor:
    """Returns L_LGCFS^t, the sum over tau of the pairs' losses (eqs 8 and 9).

    Args:
        losses: [P], loss of each pair: L_MASK if frame t has a mask, L_MIL if it has boxes.
        frame: int64 [P], t of each pair.
        frames: T.

    Returns:
        [T]; 0 for the only frame of a clip.
    """
    return losses.new_zeros(frames).index_add(0, frame, losses)
