"""The loss of a step: eq 21 over clips whose frames are supervised by whatever there is.

Letters: N frames of all clips, P pairs of frames, C channels, h w cells of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import SimrvosConfig
from stages.student.data.clips import Clip
from stages.student.simrvos.blcl import Regions, blcl_losses, regions_of_boxes, regions_of_masks
from stages.student.simrvos.lgcfs import cross_frame_losses, cross_frame_pairs
from stages.student.simrvos.mil import GridBoxes, boxes_on_grid, mil_losses
from stages.student.simrvos.model import Segmented, mask_losses

_NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Targets:
    """What is known of frames, on one grid.

    Attributes:
        mask: bool [N, h, w]; all False where a frame has no mask.
        boxes: of each frame; none where it has none.
        boxed: bool [N], which frames have boxes.
        weight: float32 [N]; 0 where nothing is known.
    """

    mask: Tensor
    boxes: tuple[GridBoxes, ...]
    boxed: Tensor
    weight: Tensor


def targets_of(clips: Sequence[Clip], grid: tuple[int, int], device: torch.device) -> Targets:
    """The supervision of clips of one frame size on a grid of h x w cells.

    A cell is in a mask where most of it is; a box takes the cell borders nearest to its own.
    """
    frames = [(item, clip.size) for clip in clips for item in clip.supervision]
    masks = torch.from_numpy(np.concatenate([clip.mask for clip in clips])).to(device)
    shares = F.interpolate(masks[:, None].float(), grid, mode="area")[:, 0]
    boxes = [
        boxes_on_grid(_NO_BOXES if item.boxes is None else item.boxes, size, grid)
        for item, size in frames
    ]
    boxed = torch.tensor([item.kind == "boxes" for item, _ in frames], device=device)
    weight = torch.from_numpy(np.concatenate([clip.weight for clip in clips])).to(device)
    return Targets(shares > 0.5, tuple(boxes), boxed, weight)


def loss_terms(
    found: Segmented,
    clips: Sequence[Clip],
    config: SimrvosConfig,
    grid: tuple[int, int],
    *,
    size: float,
    predictions_count: bool,
) -> dict[str, Tensor]:
    """Sum over t of (L_SEG^t + L_LGCFS^t), plus L_BLCL of each clip (eq 21), by the frames' weight.

    L_SEG is L_MASK (eq 19) where a frame has a mask or its target is absent, and L_MIL where it has
    boxes. Every term is divided by the weight of all frames of the step: what a step costs does not
    depend on how many frames of it are known.

    Args:
        found: what the student gave for the frames of the clips, one after the other.
        clips: of one frame size.
        grid: h and w that masks and logits are compared at.
        size: weight of all frames of the step, of which these clips may be a part; above 0.
        predictions_count: whether BLCL takes the student's own predictions within boxes for
            pseudo-masks; the paper does from the second epoch on, and before that, frames with
            boxes have no part in it.

    Returns:
        ``segmentation`` and, where they are switched on, ``lgcfs`` and ``blcl``; a value each.
    """
    targets = targets_of(clips, grid, found.logits.device)
    lengths = [len(clip.images) for clip in clips]
    each = _segmentation_losses(resize_logits(found.logits, *grid), targets, config)
    terms = {"segmentation": (targets.weight * each).sum() / size}
    if config.lgcfs:
        crossed = _cross_frame_losses(found, targets, config, grid, lengths)
        terms["lgcfs"] = config.lgcfs_weight * (targets.weight * crossed).sum() / size
    if config.blcl:
        assert found.contrast is not None, "a student that is trained with BLCL has its layers"
        regions = _regions(found.logits, clips, config.blcl_threshold, predictions_count)
        contrasted = blcl_losses(found.sentence, found.contrast, regions, lengths)
        terms["blcl"] = config.blcl_weight * contrasted.sum() / size
    return terms


def resize_logits(logits: Tensor, height: int, width: int) -> Tensor:
    """[N, h, w] to [N, height, width], bilinear."""
    size = (height, width)
    return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _segmentation_losses(
    logits: Tensor, targets: Targets, config: SimrvosConfig, frame: Tensor | None = None
) -> Tensor:
    """L_MASK or L_MIL of each of P logit maps [P, h, w], held to frame[p]; by default to p."""
    if frame is None:
        frame = torch.arange(len(logits), device=logits.device)
    losses = mask_losses(logits, targets.mask[frame], config.dice_weight, config.focal_weight)
    boxed = targets.boxed[frame].nonzero()[:, 0]
    if not len(boxed):
        return losses
    boxes = [targets.boxes[row] for row in frame[boxed].tolist()]
    return losses.index_put((boxed,), config.mil_weight * mil_losses(logits[boxed], boxes))


def _cross_frame_losses(
    found: Segmented,
    targets: Targets,
    config: SimrvosConfig,
    grid: tuple[int, int],
    lengths: Sequence[int],
) -> Tensor:
    """L_LGCFS of each of the N frames (eqs 8 and 9)."""
    maps, frames, start = [], [], 0
    for length in lengths:
        clip = slice(start, start + length)
        logits, frame = cross_frame_pairs(found.features[clip], found.theta[clip])
        maps.append(logits)
        frames.append(frame + start)
        start += length
    frame = torch.cat(frames)
    if not len(frame):
        return found.logits.new_zeros(start)
    logits = resize_logits(torch.cat(maps), *grid)
    losses = _segmentation_losses(logits, targets, config, frame)
    return cross_frame_losses(losses, frame, start)


def _regions(
    logits: Tensor, clips: Sequence[Clip], threshold: float, predictions_count: bool
) -> Regions:
    """Target and background of all frames on the grid of the features [N, h, w]."""
    grid = logits.shape[-2], logits.shape[-1]
    targets = targets_of(clips, grid, logits.device)
    foreground, background = regions_of_masks(targets.mask)
    weight = targets.weight
    if not predictions_count:
        return Regions(foreground, background, torch.where(targets.boxed, 0.0, weight))
    inside = torch.zeros_like(foreground)
    for row, boxes in enumerate(targets.boxes):
        for x0, y0, x1, y1 in boxes.tolist():
            inside[row, y0:y1, x0:x1] = True
    sure, sure_not = regions_of_boxes(logits, inside, threshold)
    boxed = targets.boxed[:, None, None]
    return Regions(
        torch.where(boxed, sure, foreground), torch.where(boxed, sure_not, background), weight
    )
