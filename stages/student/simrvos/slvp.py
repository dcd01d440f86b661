"""SLVP's loss: learns to tell targets apart by their motion (WACVW 2024; this loss is ours).

The paper uses optical flow as an intermediate target, so that pixel features are learnt from videos
with sentences but without masks. Here the sentences of a clip and the background divide the pixels
of a frame. Each share has one motion, and together they should explain the flow. So the loss is
smallest if a sentence's mask is an object that moves as a whole, unlike what is around it.

Letters: E sentences of a clip, T frames, R = E + 1 shares with the background last, n pixels, K
terms of a motion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import SlvpConfig
from stages.student.data.clips import Clip
from stages.student.data.frames import on_the_same_frames
from stages.student.weak.losses import resize_logits

NOISE = 0.05
"""Pixels: the mean flow that is taken for noise; a still frame teaches next to nothing."""
_RIDGE = 1e-4
"""Of all pixels; holds the motion of an empty share to 0."""


def motion_terms(
    logits: Tensor, clips: Sequence[Clip], config: SlvpConfig, grid: tuple[int, int], size: float
) -> dict[str, Tensor]:
    """Returns the terms of the loss, by the frames' weight.

    Args:
        logits: [N, h, w] of the frames of the clips, one after the other.
        clips: clips of one frame size; those that share their frames are consecutive.
        grid: h and w at which flow and masks are compared.
        size: weight of all frames of the step, of which these clips may be a part; above 0.

    Returns:
        ``motion``, the flow that the shares do not explain, and ``area``; a scalar each.
    """
    motion, area = logits.new_zeros(()), logits.new_zeros(())
    for place, several in on_the_same_frames(clips):
        maps = resize_logits(logits[place], *grid)
        chance = maps.float().sigmoid().reshape(len(several), len(several[0].images), -1)
        flow = _flow_on_grid(several[0], grid, logits.device)
        weight = torch.from_numpy(np.stack([clip.weight for clip in several])).to(logits.device)
        each = unexplained(shares(chance), flow, grid)
        motion = motion + (weight * each).sum()
        area = area + (weight * chance.mean(-1)).sum()
    return {"motion": motion / size, "area": config.area_weight * area / size}


def shares(chance: Tensor) -> Tensor:
    """Divides the pixels of each frame among sentences and background: [T, R, n].

    Sentences of one target claim the same pixels and share them. This costs nothing, since both
    have its motion. Pixels that no sentence claims belong to the background.

    Args:
        chance: [E, T, n] in [0, 1], how much of each pixel each sentence claims.
    """
    claimed = torch.cat([chance, (1 - chance).prod(0, keepdim=True)]).transpose(0, 1)
    shared: Tensor = claimed / claimed.sum(1, keepdim=True)
    return shared


def unexplained(share: Tensor, flow: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns the part of the flow that is left if every share has the motion that fits it best.

    A motion is affine, so it covers shift, rotation and growth of objects and of the camera.

    Args:
        share: [T, R, n], sums to 1 over R.
        flow: [T, n, 2], pixels; NaN where it is unknown.
        grid: h and w, with n = h w.

    Returns:
        [T]: mean length of what is left, divided by that which the camera's motion leaves. 1
        explains no more than the camera's motion, 0 everything.
    """
    terms_nK = _terms(grid, flow)
    known = flow.isfinite().all(-1)
    flow = torch.where(known[..., None], flow, 0.0)
    everything = known[:, None].float()
    with torch.autocast(flow.device.type, enabled=False):
        left = _left(share.float() * everything, flow, terms_nK)
        of_camera = _left(everything, flow, terms_nK)
    rest: Tensor = left / (of_camera + NOISE * known.sum(1).clamp(min=1))
    return rest


def _left(share: Tensor, flow: Tensor, terms: Tensor) -> Tensor:
    """[T]: the summed length of the flow [T, n, 2] beside the motion of each share [T, R, n], which
    is the least squares fit of ``terms`` [n, K]."""
    weighted = share[..., None] * terms
    gram = torch.einsum("trnk,nl->trkl", weighted, terms)
    gram = gram + _RIDGE * len(terms) * torch.eye(terms.shape[1], device=terms.device)
    moved = torch.einsum("trnk,tnc->trkc", weighted, flow)
    fitted = terms @ torch.linalg.solve(gram, moved)
    # The root of 0 has no gradient.
    length = ((fitted - flow[:, None]).square().sum(-1) + 1e-6).sqrt()
    total: Tensor = (share * length).sum((1, 2))
    return total


def _terms(grid: tuple[int, int], like: Tensor) -> Tensor:
    """1, x and y of every pixel, x and y from -1 to 1: [n, 3]."""
    y, x = (torch.linspace(-1, 1, count, device=like.device) for count in grid)
    ones = torch.ones(grid, device=like.device)
    return torch.stack([ones, x.expand(grid), y[:, None].expand(grid)], -1).flatten(0, 1)


def _flow_on_grid(clip: Clip, grid: tuple[int, int], device: torch.device) -> Tensor:
    """The flow of a clip's frames [T, n, 2] at the grid's places, in pixels of the frame."""
    height, width = clip.size
    unknown = np.full((height, width, 2), np.nan, np.float32)
    found = [unknown if item.flow is None else item.flow for item in clip.supervision]
    flow = torch.from_numpy(np.stack(found)).to(device).permute(0, 3, 1, 2)
    return F.interpolate(flow, grid, mode="area").flatten(2).transpose(1, 2)
