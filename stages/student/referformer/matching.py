"""Which query is the target of a clip: ReferFormer's instance sequence matching.

A query is one object in all frames of a clip, so one cost of the whole clip decides. A clip has one
target, so the best query is the one of the least cost.

Letters: N frames of all clips, Q queries, h w cells of the masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from pipeline.config import ReferformerConfig
from stages.student.data.clips import Clip
from stages.student.referformer.network import Decoded
from stages.student.weak.losses import Targets

_ALPHA, _GAMMA = 0.25, 2.0
"""Of the focal loss."""


class TargetBoxes:
    """The target's box in N frames: the box around its boxes, or around its mask.

    Args:
        clips: of one frame size.
        device: of the tensors.

    Attributes:
        boxes: [N, 4], centre x, centre y, width, height in [0, 1] of the frame; 0 without one.
        known: bool [N], whether a frame has one.
    """

    def __init__(self, clips: Sequence[Clip], device: torch.device) -> None:
        rows = []
        for clip in clips:
            height, width = clip.size
            for item in clip.supervision:
                tight = item.tight_boxes / np.array([width, height] * 2, np.float32)
                around = [*tight[:, :2].min(0), *tight[:, 2:].max(0)] if len(tight) else [0.0] * 4
                rows.append(around)
        corners = torch.tensor(np.array(rows, np.float32), device=device)
        self.boxes = box_convert(corners, "xyxy", "cxcywh")
        self.known = self.boxes[:, 2] > 0


@torch.no_grad()
def matched_queries(
    found: Decoded,
    layer: int,
    targets: Targets,
    boxes: TargetBoxes,
    lengths: Sequence[int],
    config: ReferformerConfig,
) -> Tensor:
    """Returns the matched query of each frame, int64 [N]; it is the same in all frames of a clip.

    The cost is the mean over a clip's frames, of those in which each part is known: the score, the
    L1 distance and GIoU of boxes, and the focal and Dice cost of masks. A clip without any takes
    the query of the highest score.

    Args:
        found: the queries.
        layer: of the decoder.
        targets: supervision on the grid of the masks.
        boxes: the target's boxes.
        lengths: frames of each clip; their sum is N.
        config: weights of the parts.
    """
    scores = found.scores[layer].sigmoid()
    shown = boxes.known & (targets.weight > 0)
    pointed = torch.tensor([len(cells) > 0 for cells in targets.points], device=scores.device)
    masked = (targets.weight > 0) & ~targets.boxed & ~pointed
    chance = scores.clamp(1e-8, 1 - 1e-8)
    positive = _ALPHA * (1 - chance) ** _GAMMA * -chance.log()
    negative = (1 - _ALPHA) * chance**_GAMMA * -(1 - chance).log()
    near = (found.boxes[layer] - boxes.boxes[:, None]).abs().sum(-1)
    per_frame = (
        config.score_weight * (positive - negative)
        + config.box_weight * near
        - config.giou_weight * _overlaps(found.boxes[layer], boxes.boxes)
    )
    start, matched = 0, []
    for length in lengths:
        part = slice(start, start + length)
        cost = torch.zeros_like(scores[0])
        if not (shown[part] | masked[part]).any():
            cost = -scores[part].mean(0)
        if shown[part].any():
            cost = cost + per_frame[part][shown[part]].mean(0)
        if masked[part].any():
            rows = masked[part].nonzero()[:, 0] + start
            cost = cost + _mask_costs(found, layer, rows, targets.mask[rows], config)
        matched.append(cost.argmin().expand(length))
        start += length
    return torch.cat(matched)


def _overlaps(boxes: Tensor, target: Tensor) -> Tensor:
    """Returns the GIoU [N, Q] of boxes [N, Q, 4] with one box of each frame [N, 4]."""
    corners, one = (box_convert(item, "cxcywh", "xyxy") for item in (boxes, target[:, None]))
    return torch.stack(
        [generalized_box_iou(many, few)[:, 0] for many, few in zip(corners, one, strict=True)]
    )


def _mask_costs(
    found: Decoded, layer: int, rows: Tensor, target: Tensor, config: ReferformerConfig
) -> Tensor:
    """Returns the focal and Dice cost [Q] of each query's masks in some frames, taken together."""
    wanted, costs = target.to(found.features.dtype), []
    for query in range(found.scores.shape[-1]):
        every = torch.full((len(found.features),), query, device=rows.device)
        logits = found.segmented(layer, every).logits[rows]
        chance = logits.sigmoid()
        right = chance * wanted + (1 - chance) * (1 - wanted)
        share = _ALPHA * wanted + (1 - _ALPHA) * (1 - wanted)
        crossed = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        focal = (share * (1 - right) ** _GAMMA * crossed).mean()
        dice = (2 * (chance * wanted).sum() + 1) / (chance.sum() + wanted.sum() + 1)
        costs.append(config.focal_weight * focal - config.dice_weight * dice)
    return torch.stack(costs)
