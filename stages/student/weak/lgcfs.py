"""Language-guided cross-frame segmentation (SimRVOS, arXiv 2308.02162, eqs 7 to 9); training only.

The filters of frame tau must find the target in frame t too, so that they encode the sentence and
not what is specific to one frame.

Letters: T frames of a clip, D channels, h w cells of a feature map, P = T (T - 1) ordered pairs of
distinct frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.student.weak.filters import DynamicFilters


def cross_frame_pairs(
    filters: DynamicFilters, cells: Tensor, theta: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the logits of eq 7 for tau != t, and the frame t that supervises each (eqs 8, 9).

    M^{t<-tau} = conv(F_ENH^t; f_theta^tau).

    Args:
        filters: the shape of theta.
        cells: [T, D, h, w] of one clip: F_ENH, or F_FPN without BLCL, with coordinates.
        theta: [T, n] of the same frames.

    Returns:
        Logits [P, h, w], ordered by t and then tau, and t as int64 [P]; P is 0 for one frame.
    """
    frames = len(cells)
    apart = ~torch.eye(frames, dtype=torch.bool, device=cells.device)
    logits = filters.crossed(cells, theta)[apart]
    return logits, torch.arange(frames, device=cells.device).repeat_interleave(frames - 1)


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
