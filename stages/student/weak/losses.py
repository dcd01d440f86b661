"""The loss of SimRVOS (eq 21), for every student with dynamic filters.

The frames of a clip may have supervision of different kinds.

Letters: N frames of all clips, P pairs of frames, C channels, h w cells of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import WeakConfig
from stages.common.losses import mask_losses
from stages.student.data.clips import Clip
from stages.student.weak.blcl import Regions, blcl_losses, regions_of_boxes, regions_of_masks
from stages.student.weak.lgcfs import cross_frame_losses, cross_frame_pairs
from stages.student.weak.mil import GridBoxes, boxes_on_grid, mil_losses
from stages.student.weak.segmented import Segmented

_NO_BOXES = np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class Targets:
    """The supervision of N frames on one grid.

    Attributes:
        mask: bool [N, h, w]; all False for a frame without a mask.
        boxes: boxes of each frame; may be empty.
        boxed: bool [N], whether a frame is supervised by boxes.
        points: of each frame, int64 [n, 2], row and column of the cells that its points lie in; n
            is 0 for a frame that is not supervised by points.
        weight: float32 [N]; 0 for a frame of unknown status.
    """

    mask: Tensor
    boxes: tuple[GridBoxes, ...]
    boxed: Tensor
    points: tuple[Tensor, ...]
    weight: Tensor


def targets_of(clips: Sequence[Clip], grid: tuple[int, int], device: torch.device) -> Targets:
    """Returns the supervision of clips of one frame size on a grid of h x w cells.

    A cell is in a mask if most of it is. A box gets the cell borders that are nearest to its own.
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
    points = tuple(_cells_of(item.points, size, grid).to(device) for item, size in frames)
    return Targets(shares > 0.5, tuple(boxes), boxed, points, weight)


def _cells_of(
    points: NDArray[np.float32] | None, size: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Returns row and column, int64 [n, 2], of the cells that points x, y lie in."""
    if points is None:
        return torch.zeros(0, 2, dtype=torch.int64)
    scaled = torch.from_numpy(points).flip(1) * torch.tensor(grid) / torch.tensor(size)
    return torch.minimum(scaled.long(), torch.tensor(grid) - 1)


def loss_terms(
    found: Segmented,
    clips: Sequence[Clip],
    config: WeakConfig,
    grid: tuple[int, int],
    *,
    size: float,
    predictions_count: bool,
) -> dict[str, Tensor]:
    """Returns the terms of eq 21: L_SEG and L_LGCFS, summed over frames, and L_BLCL, over clips.

    L_SEG is L_MASK (eq 19) for a frame with a mask or without its target, and L_MIL for a frame
    with boxes. Frames count by their weight. Every term is divided by the weight of all frames of
    the step, so that a step's loss does not depend on how many of its frames are known.

    Args:
        found: the student's output for the frames of all clips, in order.
        clips: clips of one frame size.
        config: which terms are on, and their weights.
        grid: h and w at which masks and logits are compared.
        size: weight of all frames of the step, of which these clips may be a part; above 0.
        predictions_count: whether BLCL uses the student's own predictions within boxes as
            pseudo-masks. The paper does from the second epoch on. Before that, frames with boxes
            teach BLCL their background outside of the boxes, and no target.

    Returns:
        ``segmentation`` and, if they are on, ``lgcfs`` and ``blcl``; a scalar each.
    """
    targets = targets_of(clips, grid, found.logits.device)
    lengths = [len(clip.images) for clip in clips]
    each = segmentation_losses(resize_logits(found.logits, *grid), targets, config)
    terms = {"segmentation": (targets.weight * each).sum() / size}
    if config.lgcfs:
        crossed = _cross_frame_losses(found, targets, config, grid, lengths)
        terms["lgcfs"] = config.lgcfs_weight * (targets.weight * crossed).sum() / size
    if config.blcl:
        assert found.contrast is not None, "a student that is trained with BLCL has its layers"
        predicted = predictions_count and config.blcl_predictions
        regions = _regions(found.logits, clips, config.blcl_threshold, predicted)
        contrasted = blcl_losses(
            found.sentence,
            found.contrast,
            regions,
            lengths,
            levels=config.blcl_levels,
            balanced=config.blcl_balanced,
        )
        terms["blcl"] = config.blcl_weight * contrasted.sum() / size
    return terms


def resize_logits(logits: Tensor, height: int, width: int) -> Tensor:
    """Resizes logits [N, h, w] to [N, height, width], bilinearly."""
    size = (height, width)
    return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def segmentation_losses(
    logits: Tensor, targets: Targets, config: WeakConfig, frame: Tensor | None = None
) -> Tensor:
    """Returns L_MASK, L_MIL or -log p of the points of P logit maps [P, h, w]: [P].

    Args:
        frame: int64 [P], the frame whose targets each map is compared with; by default p itself.
    """
    if frame is None:
        frame = torch.arange(len(logits), device=logits.device)
    losses = mask_losses(logits, targets.mask[frame], config.dice_weight, config.focal_weight)
    boxed = targets.boxed[frame].nonzero()[:, 0]
    if len(boxed):
        boxes = [targets.boxes[row] for row in frame[boxed].tolist()]
        losses = losses.index_put((boxed,), config.mil_weight * mil_losses(logits[boxed], boxes))
    pointed = any(map(len, targets.points))  # without points, the host need not wait for the frames
    for row, number in enumerate(frame.tolist() if pointed else ()):
        cells = targets.points[number]
        if len(cells):
            of_points = F.softplus(-logits[row, cells[:, 0], cells[:, 1]]).mean()
            losses = losses.index_put((torch.tensor([row]),), of_points[None])
    return losses


def _cross_frame_losses(
    found: Segmented,
    targets: Targets,
    config: WeakConfig,
    grid: tuple[int, int],
    lengths: Sequence[int],
) -> Tensor:
    """Returns L_LGCFS of each of the N frames (eqs 8 and 9): [N]."""
    maps, frames, start = [], [], 0
    for length in lengths:
        clip = slice(start, start + length)
        logits, frame = cross_frame_pairs(found.filters, found.cells[clip], found.theta[clip])
        maps.append(logits)
        frames.append(frame + start)
        start += length
    frame = torch.cat(frames)
    if not len(frame):
        return found.logits.new_zeros(start)
    logits = resize_logits(torch.cat(maps), *grid)
    losses = segmentation_losses(logits, targets, config, frame)
    others = torch.tensor([length - 1 for length in lengths for _ in range(length)])
    share = {"sum": torch.ones(start), "mean": 1 / others.clamp(min=1), "none": torch.zeros(start)}
    boxed = share[config.lgcfs_boxes].to(losses)
    summed = cross_frame_losses(losses, frame, start)
    return torch.where(targets.boxed, boxed * summed, summed)


def _regions(
    logits: Tensor, clips: Sequence[Clip], threshold: float, predictions_count: bool
) -> Regions:
    """Returns target and background of all frames on the grid of the features [N, h, w]."""
    grid = logits.shape[-2], logits.shape[-1]
    targets = targets_of(clips, grid, logits.device)
    foreground, background = regions_of_masks(targets.mask)
    inside = torch.zeros_like(foreground)
    for row, boxes in enumerate(targets.boxes):
        for x0, y0, x1, y1 in boxes.tolist():
            inside[row, y0:y1, x0:x1] = True
    sure, sure_not = regions_of_boxes(logits, inside, threshold)
    if not predictions_count:
        sure, sure_not = torch.zeros_like(inside), ~inside
    boxed = targets.boxed[:, None, None]
    # A point says of one cell that it is the target, and nothing of the others.
    pointed = torch.zeros_like(foreground)
    for row, cells in enumerate(targets.points):
        pointed[row, cells[:, 0], cells[:, 1]] = True
        background[row] &= len(cells) == 0
    return Regions(
        torch.where(boxed, sure, foreground | pointed),
        torch.where(boxed, sure_not, background),
        targets.weight,
    )
