"""Bi-level contrastive learning (SimRVOS, arXiv 2308.02162, eqs 10 to 18).

Two levels: the sentence against the pixels of the target and of the background (language-vision),
and a clip's mean target and mean background against every frame's (consistency).

Letters: N frames of several clips, T frames of one, C channels, h w cells of a feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContrastiveFeatures(nn.Module):
    """The layers of H, the features to contrast, and of F_ENH, which brings them into the masks.

    H^t = convs(F_FPN^t); F_ENH^t = two convolutions of [conv(F_FPN^t), H^t]. They start near
    F_ENH = F_FPN, which is not negative. So a student with these layers starts close to one without
    them, and not behind three random convolutions.

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
        """Returns H and F_ENH, each [N, C, h, w], from F_FPN [N, C, h, w]."""
        features = self.contrast(pyramid)
        return features, self.enhance(torch.cat([self.carry(pyramid), features], dim=1))


@dataclass(frozen=True)
class Regions:
    """The cells that are known to be target or background. A cell in neither is ignored.

    Attributes:
        foreground: bool [T, h, w].
        background: bool [T, h, w], disjoint from the foreground.
        weight: [T] in [0, 1], weight of every cell of the frame.
    """

    foreground: Tensor
    background: Tensor
    weight: Tensor


def regions_of_masks(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns foreground and background of masks, bool [T, h, w] each (eqs 10 and 11)."""
    return mask, ~mask


def regions_of_boxes(logits: Tensor, inside: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Returns foreground and background of frames with boxes (eqs 12 and 13).

    Inside a box, cells follow the student's own prediction if it is confident, else they are
    ignored. Everything outside is background.

    Args:
        logits: [T, h, w] of the prediction; they get no gradient.
        inside: bool [T, h, w], whether a cell is in a box.
        threshold: d_th. A cell is foreground if its probability is above it, and background if it
            is below 1 - d_th.

    Returns:
        bool [T, h, w] each.
    """
    chance = logits.detach().sigmoid()
    return inside & (chance > threshold), ~inside | (chance < 1 - threshold)


def contrast(
    query: Tensor, features: Tensor, positive: Tensor, negative: Tensor, balanced: bool = False
) -> Tensor:
    """L(Q, K+ | K-) (eq 14): the mean over K+ and K- of -log s(Q.k) and of -log(1 - s(Q.k)).

    Args:
        query: [C].
        features: [T, C, h, w], the keys.
        positive: [T, h, w], weight of each cell in K+; 0 for a cell that is not in it.
        negative: [T, h, w], the same for K-.
        balanced: whether K+ and K- are averaged each by itself, so that a small target counts as
            much as a large background. The paper has one mean over both.

    Returns:
        The mean, or the sum of the two means; an empty set adds 0. Sums are divided by the number
        of cells, so that cells of half the weight cost half as much.
    """
    score = torch.einsum("c,tchw->thw", query, features)
    alike, apart = (positive * F.softplus(-score)).sum(), (negative * F.softplus(score)).sum()
    true, false = (positive > 0).sum(), (negative > 0).sum()
    if balanced:
        return alike / true.clamp(min=1) + apart / false.clamp(min=1)
    return (alike + apart) / (true + false).clamp(min=1)


Levels = Literal["both", "language_vision", "consistency"]
"""The levels of BLCL."""


def blcl_loss(
    sentence: Tensor,
    features: Tensor,
    regions: Regions,
    *,
    levels: Levels = "both",
    balanced: bool = False,
) -> Tensor:
    """Returns L_BLCL of one clip (eq 18): language-vision (eq 15) plus consistency (eqs 16, 17).

    Args:
        sentence: [C], R^s.
        features: [T, C, h, w], H.
        regions: regions of the T frames.
        levels: which of the two levels count.
        balanced: as in :func:`contrast`.
    """
    weight = regions.weight.to(features.dtype)[:, None, None]
    foreground, background = weight * regions.foreground, weight * regions.background
    loss = features.new_zeros(())
    if levels != "consistency":
        loss = loss + contrast(sentence, features, foreground, background, balanced)
    if levels == "language_vision":
        return loss
    # The mean of no cells is no feature to be alike.
    if foreground.any():
        mean = _mean(features, foreground)
        loss = loss + contrast(mean, features, foreground, background, balanced)
    if background.any():
        mean = _mean(features, background)
        loss = loss + contrast(mean, features, background, foreground, balanced)
    return loss


def blcl_losses(
    sentences: Tensor,
    features: Tensor,
    regions: Regions,
    lengths: Sequence[int],
    *,
    levels: Levels = "both",
    balanced: bool = False,
) -> Tensor:
    """Returns L_BLCL of each of several consecutive clips.

    Args:
        sentences: [N, C], R^s of each frame. A clip has one sentence.
        features: [N, C, h, w], H.
        regions: regions of all N frames.
        lengths: frames of each clip; their sum is N.
        levels, balanced: as in :func:`blcl_loss`.

    Returns:
        One value per clip.
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
                    levels=levels,
                    balanced=balanced,
                )
                for clip in clips
            ]
        )


def _mean(features: Tensor, weight: Tensor) -> Tensor:
    """[C], over the cells of all frames, each by its weight."""
    return torch.einsum("thw,tchw->c", weight, features) / weight.sum()
