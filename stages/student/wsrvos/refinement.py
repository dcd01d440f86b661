"""Masks finer than the proposals. The published code leaves them at 1/32 of the frame.

The finest maps have the edges and no idea of the sentence; the proposals' response knows what is
meant and has no edges. A feature pyramid joins the frame's maps from the coarsest to the finest,
once a frame, whatever the number of sentences. A sentence's dynamic filters (as in SimRVOS, eqs 3
and 5) read it, and their logits are added to the response, carried up bilinearly. The filters
start at zero: at the start a mask is the response itself, and training moves its edge.

Letters: N frames, E sentences, T frames of a clip, C channels, h w proposals, h_1 w_1 finest cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.student.simrvos.lgcfs import cross_frame_logits
from stages.student.simrvos.model import DYNAMIC_CHANNELS, FeaturePyramid, filter_sizes


class Refinement(nn.Module):
    """Adds to a coarse response what the finer maps say of it.

    Args:
        maps: channels of the image encoder's maps, finest first.
        channels: C, a multiple of 8.
    """

    def __init__(self, maps: Sequence[int], channels: int) -> None:
        super().__init__()
        self.top = nn.Conv2d(maps[-1], channels, 1)
        self.pyramid = FeaturePyramid(maps[:-1], channels)
        last = nn.Linear(channels, sum(filter_sizes(channels)))
        with torch.no_grad():
            last.weight[-(DYNAMIC_CHANNELS + 1) :] = 0
            last.bias[-(DYNAMIC_CHANNELS + 1) :] = 0
        self.filters = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), last)

    def pyramid_of(self, maps: Sequence[Tensor]) -> Tensor:
        """The encoder's maps of N frames to [N, C, h_1, w_1]."""
        joined: Tensor = self.pyramid(self.top(maps[-1]), maps[:-1])
        return joined

    def forward(self, coarse: Tensor, features: Tensor, sentence: Tensor) -> Tensor:
        """Coarse logits [E, T, h, w], features [T, C, h_1, w_1] and sentences [E, T, C] to logits
        [E, T, h_1, w_1]; a sentence has the same filters in all frames of a clip."""
        upper = F.interpolate(coarse, features.shape[-2:], mode="bilinear", align_corners=False)
        theta = self.filters(sentence.mean(1))
        return upper + cross_frame_logits(features, theta).transpose(0, 1)
