"""The losses of the student ``grounded``: which instance, and its mask.

Letters: E clips of the same T frames, S sentences, Q instances of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from stages.student.data.clips import Clip
from stages.student.data.supervision import FrameSupervision

SAME_IOU = 0.5
"""An instance whose box has a larger IoU with the target's box can be the target."""
_SHARP = 4
"""Power of the IoU: of two instances that can be the target, the better box is to be chosen."""


def target_boxes(item: FrameSupervision, size: tuple[int, int]) -> Tensor:
    """Returns a frame's target boxes [n, 4], x0, y0, x1, y1 in [0, 1]; of a mask, its own."""
    height, width = size
    return torch.from_numpy(item.tight_boxes) / torch.tensor([width, height] * 2)


def overlaps(boxes: Tensor, clips: Sequence[Clip]) -> Tensor:
    """Returns the IoU of each instance with the target of each clip, [E, T, Q].

    With several target boxes, the largest IoU counts. It is 0 where no box is known.

    Args:
        boxes: [T, Q, 4], centre x, centre y, width, height in [0, 1] of the frame.
        clips: E, of the T frames.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy")
    found = boxes.new_zeros(len(clips), *boxes.shape[:2])
    for row, clip in enumerate(clips):
        for frame, item in enumerate(clip.supervision):
            targets = target_boxes(item, clip.size).to(boxes)
            if len(targets):
                found[row, frame] = box_iou(corners[frame], targets).amax(1)
    return found


def choice_losses(logits: Tensor, overlap: Tensor, absent: Tensor) -> Tensor:
    """Returns -log p of the choice for true sentences, [S, T].

    In an absent frame, p is the probability of none. Else it is that of all instances whose boxes
    fit, for several may be the target, and the better ones count more. A present frame without such
    an instance teaches nothing here.

    Args:
        logits: [S, T, Q + 1].
        overlap: [S, T, Q], IoU of each instance with the sentence's target.
        absent: bool [S, T].
    """
    fits = torch.where(overlap > SAME_IOU, overlap, 0)
    best = fits.amax(-1, keepdim=True)
    share = torch.cat([(fits / best.clamp(min=SAME_IOU)) ** _SHARP, absent[..., None].to(fits)], -1)
    taught = (best[..., 0] > 0) | absent
    right = torch.where(share > 0, logits + share.clamp(min=1e-9).log(), float("-inf"))
    right = torch.where(taught[..., None], right, logits)  # no row of -inf, which has no gradient
    losses: Tensor = (logits.logsumexp(-1) - right.logsumexp(-1)) * taught
    return losses


def objection_losses(logits: Tensor, overlap: Tensor) -> Tensor:
    """Returns -log(1 - p) of the choice for false sentences, [S, T].

    p is the probability of the instances that the sentence is false of. A negative may be true of
    something else, so it says no more than this.

    Args:
        logits: [S, T, Q + 1].
        overlap: [S, T, Q], IoU of each instance with the target that the sentence is false of.
    """
    others = torch.cat(
        [overlap <= SAME_IOU, torch.ones_like(overlap[..., :1], dtype=torch.bool)], -1
    )
    losses: Tensor = logits.logsumexp(-1) - logits.masked_fill(~others, float("-inf")).logsumexp(-1)
    return losses
