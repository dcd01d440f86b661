"""Bi-level contrastive learning (SimRVOS, arXiv 2308.02162, eqs 10 to 18).

Two levels: the sentence against the pixels of the target and of the background (language-vision),
and a clip's mean target and mean background against every frame's (consistency).

Letters: N frames of several clips, T frames of one, C channels, h w cells of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContrastiveFeatures(nn.Module):
    """H and F_ENH: features to contrast, and how they come back into the masks.

    H^t = convs(F_FPN^t); F_ENH^t = two convolutions of [conv(F_FPN^t), H^t]. They start near
    F_ENH = F_FPN, which is nowhere negative: a student with these layers starts much as the one
    without, in place of behind three convolutions of noise.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.contrast = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
        )
        self.carry = nn.Conv2d(channels, channels, 1)
        self.enhance = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self._pass_through()

    @torch.no_grad()
    def _pass_through(self) -> None:
        for layer in (self.carry, self.enhance[0], self.enhance[2]):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            noise = layer.weight.clone()
            nn.init.dirac_(layer.weight).add_(noise, alpha=0.1)
            layer.bias.zero_()

    def forward(self, pyramid: Tensor) -> tuple[Tensor, Tensor]:
        """F_FPN [N, C, h, w] to H and F_ENH, each [N, C, h, w]."""
        features = self.contrast(pyramid)
        return features, self.enhance(torch.cat([self.carry(pyramid), features], dim=1))


@dataclass(frozen=True)
class Regions:
    """What is known to be target and background; a cell in neither is ignored.

    Attributes:
        foreground: bool [T, h, w].
        background: bool [T, h, w], nowhere both.
        weight: [T] in [0, 1], of every cell of the frame; a frame of weight 0 counts for nothing.
    """

    foreground: Tensor
    background: Tensor
    weight: Tensor


def regions_of_masks(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground and background of true masks or pseudo-masks, bool [T, h, w] each (eqs 10, 11)."""
    return mask, ~mask


def regions_of_boxes(logits: Tensor, inside: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Foreground and background of frames of which boxes are known (eqs 12 and 13).

    Inside a box the student's own prediction decides where it is sure, and nothing does where it
    is not; everything outside is background.

    Args:
        logits: [T, h, w], of the prediction; no gradient comes back.
        inside: bool [T, h, w], in a box.
        threshold: d_th; foreground where the probability is above it, background where it is
            below 1 - d_th.

    Returns:
        bool [T, h, w] each.
    """
    chance = logits.detach().sigmoid()
    return inside & (chance > threshold), ~inside | (chance < 1 - threshold)


def contrast(query: Tensor, features: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """L(Q, K+ | K-) (eq 14): the mean over K+ of -log s(Q.k), and over K- of -log(1 - s(Q.k)).

    Args:
        query: [C].
        features: [T, C, h, w], of all keys.
        positive: [T, h, w], how much each cell counts among K+; 0 where it is none.
        negative: [T, h, w], the same of K-.

    Returns:
        The two means added; an empty set adds 0. A mean is over the number of its cells, so that
        cells of half the weight cost half as much.
    """
    score = torch.einsum("c,tchw->thw", query, features)
    alike = (positive * F.softplus(-score)).sum() / (positive > 0).sum().clamp(min=1)
    apart = (negative * F.softplus(score)).sum() / (negative > 0).sum().clamp(min=1)
    return alike + apart


def blcl_loss(sentence: Tensor, features: Tensor, regions: Regions) -> Tensor:
    """L_BLCL of one clip: language-vision (eq 15) and consistency (eqs 16 and 17), summed (18).

    Args:
        sentence: [C], R^s.
        features: [T, C, h, w], H.
        regions: of the T frames.
    """
    weight = regions.weight.to(features.dtype)[:, None, None]
    foreground, background = weight * regions.foreground, weight * regions.background
    loss = contrast(sentence, features, foreground, background)
    # The mean of no cells is no feature to be alike.
    if foreground.any():
        loss = loss + contrast(_mean(features, foreground), features, foreground, background)
    if background.any():
        loss = loss + contrast(_mean(features, background), features, background, foreground)
    return loss


def blcl_losses(
    sentences: Tensor, features: Tensor, regions: Regions, lengths: Sequence[int]
) -> Tensor:
    """L_BLCL of each of several clips that lie one after the other.

    Args:
        sentences: [N, C], R^s of each frame's sentence; a clip has one.
        features: [N, C, h, w], H.
        regions: of all N frames.
        lengths: frames of each clip; their sum is N.

    Returns:
        One value a clip.
    """
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    clips = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
    # In half precision the sums over all cells of a clip would overflow.
    single = torch.promote_types(features.dtype, torch.float32)
    sentences, features = sentences.to(single), features.to(single)
    with torch.autocast(features.device.type, enabled=False):
        return torch.stack(
            [
                blcl_loss(
                    sentences[clip.start],
                    features[clip],
                    Regions(
                        regions.foreground[clip], regions.background[clip], regions.weight[clip]
                    ),
                )
                for clip in clips
            ]
        )


def _mean(features: Tensor, weight: Tensor) -> Tensor:
    """[C], over the cells of all frames, each by its weight."""
    return torch.einsum("thw,tchw->c", weight, features) / weight.sum()
