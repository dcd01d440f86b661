"""Refines masks beyond the stride of the proposals. The published code stays at 1/32 of the frame.

The finest maps have edges but do not depend on the sentence. The response of the proposals depends
on the sentence but has no edges. A feature pyramid merges the frame's maps from the coarsest to the
finest, once for all sentences. A sentence's dynamic filters (as in SimRVOS, eqs 3 and 5) are
applied to it, and their logits are added to the response, resized bilinearly. The filters start at
zero, so that a mask starts as the response itself.

Letters: N frames, E sentences, T frames of a clip, C channels, h w proposals, h_1 w_1 finest cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.student.simrvos.model import FeaturePyramid
from stages.student.weak.filters import DynamicFilters, with_coordinates


class Refinement(nn.Module):
    """Adds detail from the finer maps to a coarse response.

    Args:
        maps: channels of the image encoder's maps, finest first.
        channels: C, a multiple of 8.
    """

    def __init__(self, maps: Sequence[int], channels: int) -> None:
        super().__init__()
        self.top = nn.Conv2d(maps[-1], channels, 1)
        self.pyramid = FeaturePyramid(maps[:-1], channels)
        self.dynamic = DynamicFilters(channels + 2)
        last = nn.Linear(channels, self.dynamic.count)
        with torch.no_grad():
            last.weight[-self.dynamic.last :] = 0
            last.bias[-self.dynamic.last :] = 0
        self.filters = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(inplace=True), last)

    def pyramid_of(self, maps: Sequence[Tensor]) -> Tensor:
        """Merges the encoder's maps of N frames: [N, C, h_1, w_1]."""
        joined: Tensor = self.pyramid(self.top(maps[-1]), maps[:-1])
        return joined

    def forward(self, coarse: Tensor, features: Tensor, sentence: Tensor) -> Tensor:
        """Returns refined logits [E, T, h_1, w_1].

        A sentence has the same filters in all frames of a clip.

        Args:
            coarse: logits [E, T, h, w].
            features: [T, C, h_1, w_1].
            sentence: [E, T, C], each sentence in each frame.
        """
        upper = F.interpolate(coarse, features.shape[-2:], mode="bilinear", align_corners=False)
        theta = self.filters(sentence.mean(1))
        drawn = self.dynamic.crossed(with_coordinates(features), theta)
        return upper + drawn.transpose(0, 1)
