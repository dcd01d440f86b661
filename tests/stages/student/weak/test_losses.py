"""The total loss over clips of mixed supervision (eq 21)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import WeakConfig
from stages.common.losses import mask_losses
from stages.student.data.clips import Clip
from stages.student.data.supervision import (
    ABSENT,
    UNKNOWN,
    FrameSupervision,
    of_boxes,
    of_mask,
    of_points,
)
from stages.student.weak.blcl import Regions, blcl_loss
from stages.student.weak.filters import DynamicFilters
from stages.student.weak.losses import loss_terms, targets_of
from stages.student.weak.mil import mil_losses
from stages.student.weak.segmented import Segmented
from tests.pipeline.boxes import box_to_mask

HEIGHT, WIDTH = 24, 32
FINE, COARSE = (12, 16), (6, 8)
CHANNELS = 3
CPU = torch.device("cpu")
BOX = np.array([[8, 4, 24, 16]], np.float32)
MASK = of_mask(box_to_mask(BOX[0], HEIGHT, WIDTH))
PSEUDO = of_mask(box_to_mask(BOX[0] - 4, HEIGHT, WIDTH), 0.25)
BOXED = of_boxes(BOX)
FILTERS = DynamicFilters(CHANNELS + 2)
OFF = WeakConfig()
ALL = WeakConfig(lgcfs=True, mil=True, blcl=True)


def clip_of(*supervision: FrameSupervision) -> Clip:
    image: NDArray[np.uint8] = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return Clip((image,) * len(supervision), "the red star", supervision)


def found_for(frames: int, seed: int = 0) -> Segmented:
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()

    return Segmented(
        logits=drawn(frames, *COARSE),
        cells=drawn(frames, CHANNELS + 2, *COARSE),
        theta=drawn(frames, FILTERS.count),
        filters=FILTERS,
        sentence=drawn(1, CHANNELS).expand(frames, CHANNELS),
        contrast=drawn(frames, CHANNELS, *COARSE),
    )


def loss_of(
    found: Segmented, clips: Sequence[Clip], config: WeakConfig, pseudo: bool = True
) -> Tensor:
    weight = float(sum(clip.weight.sum() for clip in clips))
    terms = loss_terms(found, clips, config, FINE, size=weight or 1.0, predictions_count=pseudo)
    return torch.stack(list(terms.values())).sum()


def upsampled(logits: Tensor) -> Tensor:
    return F.interpolate(logits[None, None], FINE, mode="bilinear", align_corners=False)[0]


def literal_frame(logits: Tensor, item: FrameSupervision, config: WeakConfig) -> Tensor:
    """The loss of one logit map on the coarse grid, held to one frame's supervision."""
    targets = targets_of([clip_of(item)], FINE, CPU)
    if item.points is not None:
        costs = []
        for x, y in item.points.tolist():
            row, column = int(y * FINE[0] / HEIGHT), int(x * FINE[1] / WIDTH)
            costs.append(F.softplus(-upsampled(logits)[0, row, column]))
        return torch.stack(costs).mean()
    if item.kind == "boxes":
        return config.mil_weight * mil_losses(upsampled(logits), targets.boxes)[0]
    return mask_losses(upsampled(logits), targets.mask, config.dice_weight, config.focal_weight)[0]


def literal_regions(found: Segmented, clip: Clip, start: int, pseudo: bool) -> Regions:
    foreground, background, weight = [], [], []
    for place, item in enumerate(clip.supervision):
        targets = targets_of([clip_of(item)], COARSE, CPU)
        known = item.weight
        if item.points is not None:
            cell = torch.zeros(COARSE, dtype=torch.bool)
            for x, y in item.points.tolist():
                cell[int(y * COARSE[0] / HEIGHT), int(x * COARSE[1] / WIDTH)] = True
            foreground.append(cell)
            background.append(torch.zeros_like(cell))
        elif item.kind == "boxes":
            x0, y0, x1, y1 = targets.boxes[0][0].tolist()
            inside = torch.zeros(COARSE, dtype=torch.bool)
            inside[y0:y1, x0:x1] = True
            chance = found.logits[start + place].detach().sigmoid()
            foreground.append(inside & (chance > 0.9) & pseudo)
            background.append(~inside | ((chance < 0.1) & pseudo))
        else:
            foreground.append(targets.mask[0])
            background.append(~targets.mask[0])
        weight.append(known)
    return Regions(torch.stack(foreground), torch.stack(background), torch.tensor(weight))


def literal_total(
    found: Segmented, clips: Sequence[Clip], config: WeakConfig, pseudo: bool
) -> Tensor:
    total, whole, start = torch.zeros((), dtype=torch.float64), 0.0, 0
    for clip in clips:
        frames = range(start, start + len(clip.images))
        for t, item in zip(frames, clip.supervision, strict=True):
            whole += item.weight
            total = total + item.weight * literal_frame(found.logits[t], item, config)
            for tau in frames:
                if config.lgcfs and tau != t:
                    crossed = FILTERS.crossed(found.cells[[t]], found.theta[[tau]])[0, 0]
                    cost = literal_frame(crossed, item, config)
                    others = len(frames) - 1
                    share = {"sum": 1.0, "mean": 1 / others, "none": 0.0}[config.lgcfs_boxes]
                    share = share if item.kind == "boxes" else 1.0
                    total = total + config.lgcfs_weight * item.weight * share * cost
        if config.blcl:
            assert found.contrast is not None
            predicted = pseudo and config.blcl_predictions
            regions = literal_regions(found, clip, start, predicted)
            part = found.contrast[frames.start : frames.stop]
            cost = blcl_loss(found.sentence[start], part, regions, levels=config.blcl_levels)
            total = total + config.blcl_weight * cost
        start = frames.stop
    return total / whole


POINT = of_points(np.array([[BOX[0][0] + 1.5, BOX[0][1] + 2.5]], np.float32))

CLIPS = {
    "full masks": [clip_of(MASK, MASK, MASK)],
    "first mask and boxes": [clip_of(MASK, BOXED, BOXED)],
    "boxes": [clip_of(BOXED, BOXED), clip_of(BOXED)],
    "first mask": [clip_of(MASK, UNKNOWN, UNKNOWN)],
    "points": [clip_of(MASK, POINT), clip_of(POINT, POINT, UNKNOWN)],
    "pseudo-masks": [clip_of(PSEUDO, ABSENT), clip_of(PSEUDO, UNKNOWN, MASK)],
    "everything": [clip_of(MASK, BOXED, UNKNOWN, PSEUDO, ABSENT), clip_of(BOXED, PSEUDO)],
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("pseudo", [False, True])
def test_the_loss_is_equation_21(name: str, pseudo: bool) -> None:
    clips = CLIPS[name]
    found = found_for(sum(len(clip.images) for clip in clips))
    assert (found.logits.sigmoid() > 0.9).any()
    for config in (
        OFF,
        ALL,
        WeakConfig(lgcfs=True, lgcfs_weight=0.5),
        WeakConfig(blcl=True, blcl_weight=3, mil_weight=2),
        WeakConfig(lgcfs=True, lgcfs_boxes="mean"),
        WeakConfig(lgcfs=True, lgcfs_boxes="none"),
        WeakConfig(blcl=True, blcl_predictions=False, blcl_levels="consistency"),
    ):
        expected = literal_total(found, clips, config, pseudo).item()
        assert loss_of(found, clips, config, pseudo).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_is_right() -> None:
    found = found_for(3)
    clips = [clip_of(MASK, BOXED, PSEUDO)]
    assert found.contrast is not None

    def loss(logits: Tensor, cells: Tensor, theta: Tensor, contrast: Tensor) -> Tensor:
        given = replace(found, logits=logits, cells=cells, theta=theta, contrast=contrast)
        return loss_of(given, clips, ALL)

    # Targets are float32, so the steps are larger than of float64 alone.
    inputs = (found.logits, found.cells, found.theta, found.contrast)
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-5, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize("config", [OFF, ALL])
def test_a_frame_of_which_nothing_is_known_teaches_nothing_of_its_own(
    config: WeakConfig,
) -> None:
    found = found_for(3)
    assert found.contrast is not None
    loss_of(found, [clip_of(MASK, UNKNOWN, BOXED)], config).backward()
    for value in (found.logits, found.cells, found.contrast):
        if value.grad is not None:
            assert not value.grad[1].any()
    assert found.logits.grad is not None and found.logits.grad[0].any()
    assert found.logits.grad[2].any()
    if config.lgcfs:
        assert found.theta.grad is not None
        assert found.theta.grad[1].any(), "its filters are held to the other frames' truth"


@pytest.mark.parametrize("config", [OFF, ALL])
def test_clips_of_which_nothing_is_known_cost_nothing(config: WeakConfig) -> None:
    found = found_for(2)
    loss = loss_of(found, [clip_of(UNKNOWN, UNKNOWN)], config)
    loss.backward()
    assert loss.item() == 0
    assert found.logits.grad is None or not found.logits.grad.any()


def test_an_absent_frame_teaches_background() -> None:
    found = found_for(1)
    loss_of(found, [clip_of(ABSENT)], OFF).backward()
    assert found.logits.grad is not None and (found.logits.grad > 0).all()


def test_a_box_moves_bags_alone_and_a_mask_every_pixel() -> None:
    found = found_for(2)
    loss_of(found, [clip_of(BOXED, MASK)], OFF).backward()
    assert found.logits.grad is not None
    box, mask = (int((part != 0).sum()) for part in found.logits.grad)
    assert mask == COARSE[0] * COARSE[1] and box < mask


def test_a_weighted_frame_counts_by_its_weight_in_every_term() -> None:
    found = found_for(2)
    clips = [clip_of(PSEUDO, PSEUDO)]
    assert PSEUDO.mask is not None
    whole = [clip_of(*(of_mask(PSEUDO.mask),) * 2)]
    # All frames of one weight: a mean by weight does not see it.
    assert loss_of(found, clips, ALL).item() == pytest.approx(loss_of(found, whole, ALL).item())
    mixed = loss_of(found, [clip_of(of_mask(PSEUDO.mask), PSEUDO)], OFF)
    first, second = (literal_frame(found.logits[row], PSEUDO, OFF).item() for row in range(2))
    assert mixed.item() == pytest.approx((first + 0.25 * second) / 1.25, rel=1e-6)


def test_boxes_enter_blcl_from_the_second_epoch_on() -> None:
    config = WeakConfig(blcl=True)
    targets = targets_of([clip_of(BOXED)], COARSE, CPU)
    x0, y0, x1, y1 = targets.boxes[0][0].tolist()
    within = torch.zeros(COARSE, dtype=torch.bool)
    within[y0:y1, x0:x1] = True
    for pseudo in (False, True):
        found = found_for(2)
        found = replace(found, logits=5 * found.logits)  # sure of many cells
        loss_of(found, [clip_of(MASK, BOXED)], config, pseudo).backward()
        assert found.contrast is not None and found.contrast.grad is not None
        assert found.contrast.grad[0].any()
        gradient = found.contrast.grad[1]
        assert gradient[:, ~within].any() and bool(gradient[:, within].any()) == pseudo


def test_lgcfs_of_single_frames_adds_nothing() -> None:
    found, clips = found_for(2), [clip_of(MASK), clip_of(BOXED)]
    alone = loss_of(found, clips, OFF).item()
    assert loss_of(found, clips, WeakConfig(lgcfs=True)).item() == pytest.approx(alone)
