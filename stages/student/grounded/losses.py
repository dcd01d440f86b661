"""The losses of the student ``grounded``: which instance, and its mask.

Letters: E clips of the same T frames, S sentences, Q instances of a frame, K targets of a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from pipeline.plural import targets_named
from stages.student.data.clips import Clip
from stages.student.data.supervision import FrameSupervision

SAME_IOU = 0.5
"""An instance whose box has a larger IoU with the target's box can be the target."""
_SHARP = 4
"""Power of the IoU: of two instances that can be the target, the better box is to be chosen."""
_PIECE = 0.1
"""Share of a mask's largest part. A smaller part is a piece of an object and no target."""


def target_boxes(item: FrameSupervision, size: tuple[int, int], *, several: bool = False) -> Tensor:
    """Returns a frame's target boxes [n, 4], x0, y0, x1, y1 in [0, 1]; of a mask, its own.

    Args:
        item: the supervision of the frame.
        size: H and W of the frame.
        several: a mask shows several targets; each of its connected parts has a box.
    """
    height, width = size
    boxes = item.tight_boxes
    if several and item.mask is not None:
        boxes = _boxes_of_parts(item.mask)
    return torch.from_numpy(boxes) / torch.tensor([width, height] * 2)


def _boxes_of_parts(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the boxes [n, 4], xyxy in pixels, half-open, of a mask's connected parts."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    left, top, width, height, area = stats[1:].T  # the first one is the background
    boxes = np.stack([left, top, left + width, top + height], axis=1)
    return np.asarray(boxes[area >= _PIECE * area.max()], np.float32)


def overlaps(boxes: Tensor, clips: Sequence[Clip]) -> Tensor:
    """Returns the IoU of each instance with each target of each clip, [E, T, K, Q].

    K is the largest number of targets of a frame; the rows of those that have fewer are filled up
    with 0. A sentence that names one object has one target: of several boxes, the largest IoU
    counts. The IoU is 0 where no box is known.

    Args:
        boxes: [T, Q, 4], centre x, centre y, width, height in [0, 1] of the frame.
        clips: E, of the T frames.
    """
    corners = box_convert(boxes, "cxcywh", "xyxy")
    known: dict[tuple[int, int], Tensor] = {}
    for row, clip in enumerate(clips):
        several = targets_named(clip.text) > 1
        for frame, item in enumerate(clip.supervision):
            targets = target_boxes(item, clip.size, several=several).to(boxes)
            if len(targets):
                ious = box_iou(targets, corners[frame])
                known[row, frame] = ious if several else ious.amax(0, keepdim=True)
    most = max(map(len, known.values()), default=1)
    found = boxes.new_zeros(len(clips), len(boxes), most, boxes.shape[1])
    for (row, frame), ious in known.items():
        found[row, frame, : len(ious)] = ious
    return found


def choice_losses(logits: Tensor, overlap: Tensor, absent: Tensor) -> Tensor:
    """Returns -log p of the choice for true sentences, [S, T].

    In an absent frame, p is the probability of none. Else it is that of all instances whose boxes
    fit, for several may be the target, and the better ones count more. A present frame without such
    an instance teaches nothing here. Of several targets, each has a choice of its own, among all
    instances but those that fit the others; the loss is the mean over the targets that some
    instance fits.

    Args:
        logits: [S, T, Q + 1].
        overlap: [S, T, K, Q], IoU of each instance with the sentence's targets.
        absent: bool [S, T].
    """
    fits = torch.where(overlap > SAME_IOU, overlap, 0)
    best = fits.amax(-1, keepdim=True)
    none = absent[..., None, None].expand_as(best).to(fits)
    share = torch.cat([(fits / best.clamp(min=SAME_IOU)) ** _SHARP, none], -1)
    taught = (best[..., 0] > 0) | absent[..., None]
    elsewhere = (share > 0).any(2, keepdim=True) & (share == 0)
    each = logits[:, :, None].masked_fill(elsewhere, float("-inf"))
    right = torch.where(share > 0, each + share.clamp(min=1e-9).log(), float("-inf"))
    right = torch.where(taught[..., None], right, each)  # no row of -inf, which has no gradient
    losses = (each.logsumexp(-1) - right.logsumexp(-1)) * taught
    mean: Tensor = losses.sum(-1) / taught.sum(-1).clamp(min=1)
    return mean


def objection_losses(logits: Tensor, overlap: Tensor) -> Tensor:
    """Returns -log(1 - p) of the choice for false sentences, [S, T].

    p is the probability of the instances that the sentence is false of. A negative may be true of
    something else, so it says no more than this.

    Args:
        logits: [S, T, Q + 1].
        overlap: [S, T, Q], IoU of each instance with the target that the sentence is false of; of
            several targets, the largest.
    """
    others = torch.cat(
        [overlap <= SAME_IOU, torch.ones_like(overlap[..., :1], dtype=torch.bool)], -1
    )
    losses: Tensor = logits.logsumexp(-1) - logits.masked_fill(~others, float("-inf")).logsumexp(-1)
    return losses
