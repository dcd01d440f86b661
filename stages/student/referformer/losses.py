"""The losses of ReferFormer's scores and boxes.

Letters: N frames, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss


def score_losses(scores: Tensor, query: Tensor, shown: Tensor) -> Tensor:
    """Returns the focal loss of each frame's scores, summed over its queries: [N].

    Args:
        scores: logits [N, Q].
        query: int64 [N], the matched query. It has the target 1 where the frame shows the target;
            all others have 0.
        shown: bool [N].
    """
    wanted = torch.zeros_like(scores)
    wanted[torch.arange(len(query), device=query.device), query] = shown.to(scores.dtype)
    focal: Tensor = sigmoid_focal_loss(scores, wanted, alpha=0.25, gamma=2).sum(1)
    return focal


def box_losses(boxes: Tensor, target: Tensor, box_weight: float, giou_weight: float) -> Tensor:
    """Returns the weighted L1 and GIoU loss of boxes [N, 4] and target boxes [N, 4]: [N].

    Boxes are centre x, centre y, width, height in [0, 1] of the frame.
    """
    corners, wanted = (box_convert(item, "cxcywh", "xyxy") for item in (boxes, target))
    giou: Tensor = generalized_box_iou_loss(corners, wanted)
    return box_weight * (boxes - target).abs().sum(1) + giou_weight * giou
