"""The network of the student ``grounded``: an instance and its mask for each sentence.

The design follows ReferDINO (arXiv 2501.14607) and CondInst (arXiv 2003.05664): a frozen grounding
model gives instances, one is chosen for each sentence and frame, and filters made from its features
draw its mask.

Letters: T frames of a clip, Q instances of a frame, S sentences, C channels of the grounder, W of a
word, P masks, h w cells of the pixel features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.common.instances import Instances
from stages.student.grounded.motion import SoftTracks, along_tracks, velocities

STAND_IN = 0.75
"""The value of ``GroundedNetwork.stand_in`` before the labels have set it."""
PIXELS = 16
"""Channels of the pixel features, which have stride 2."""
HIDDEN = 8
"""Channels between the three dynamic 1 x 1 convolutions of a mask."""
_PLACES = 4
"""Inputs of a mask beside the pixel features."""
_SPEED = 30.0
"""Of a velocity, so that an object that crosses the frame in 30 frames has 1."""
_APART = 4.0
"""Of a distance, so that a quarter of the frame is 1."""
_WAYS = 8
"""Velocity, speed, place beside the rivals, and distance from them; two numbers each."""
_SIGNS = 5
"""What says that a frame does not show the target."""


class PixelFeatures(nn.Module):
    """Pixel features of frames at stride 2: the frozen maps, top down, and two layers of the image.

    They depend on no sentence, so a frame's are computed once for all of its masks.

    Args:
        channels: C.
        levels: number of maps.
        width: channels at stride 4.
    """

    def __init__(self, channels: int, levels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_block(3, PIXELS, stride=2), *_block(PIXELS, PIXELS))
        self.down = nn.Sequential(*_block(PIXELS, width, stride=2))
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in range(levels))
        self.smooth = nn.ModuleList(nn.Sequential(*_block(width, width)) for _ in range(levels))
        self.narrow = nn.Conv2d(width, PIXELS, 1)
        self.out = nn.Sequential(*_block(PIXELS, PIXELS), nn.Conv2d(PIXELS, PIXELS, 1))

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Returns [T, PIXELS, H / 2, W / 2] of normalised images [T, 3, H, W].

        Args:
            maps: [T, C, h, w] of the same frames, finest first.
        """
        fine = self.stem(images)
        finer = [self.down(fine), *(layer(x) for layer, x in zip(self.lateral, maps, strict=True))]
        top = finer[-1]
        for source, smooth in zip(reversed(finer[:-1]), reversed(self.smooth), strict=True):
            top = smooth(_resized(top, source) + source)
        features: Tensor = self.out(_resized(self.narrow(top), fine) + fine)
        return features


class Directions(nn.Module):
    """Learns from a sentence's words which way, and which place, its target prefers.

    The rules of :mod:`stages.student.grounded.named` know the common ways, and this learns what
    they do not know. Words add up: 'left' says left, and 'moving' opens the gate of movement. It
    has few parameters, so that few sentences are enough, and starts without any preference.

    Args:
        embedding: W.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.way = nn.Linear(embedding, _WAYS)
        self.gate = nn.Linear(embedding, _WAYS)
        nn.init.zeros_(self.way.weight)
        nn.init.zeros_(self.way.bias)

    def forward(self, words: Tensor) -> Tensor:
        """Returns weights [S, _WAYS] of words [S, W]."""
        weights: Tensor = self.way(words) * self.gate(words).sigmoid()
        return weights


class Chooser(nn.Module):
    """Chooses an instance, or none, for each sentence and frame of a clip.

    An instance's logit is the grounder's score for it, in the frame and along its track, and how
    well it moves and lies as the sentence says. Where a sentence names no movement and no place, an
    untrained chooser chooses what the grounder does. It is small on purpose: attention over all
    instances learns the training sentences by heart.

    Args:
        embedding: W, of a word by itself.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.tracks = SoftTracks()
        self.directions = Directions(embedding)
        self.trust = nn.Parameter(torch.tensor([0.5, 0.5, 1.5]))
        self.gains = nn.Parameter(torch.tensor([2.0, 1.0, 2.0]))
        last = nn.Linear(16, 1)
        self.none = nn.Sequential(nn.Linear(_SIGNS, 16), nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, found: Instances, named: Tensor) -> Tensor:
        """Returns logits [S, T, Q + 1] of a softmax over a frame's instances; the last is none.

        Args:
            found: the instances.
            named: [S, 5], of :func:`stages.student.grounded.named.named_ways`.
        """
        matches, centres = self.tracks(found.features, found.boxes), found.boxes[..., :2]
        fit = torch.logit(found.scores.clamp(1e-4, 1 - 1e-4))
        mean = along_tracks(matches, fit)
        rivals = torch.einsum("stq,tqc->stc", ((fit + mean) / 2).softmax(-1), centres)
        beside = _APART * (centres - rivals[:, :, None])
        speed = _SPEED * velocities(matches, centres)
        moving = torch.cat([(2 * speed).tanh(), (4 * speed.abs()).tanh()], -1)
        ways = torch.cat([moving.expand(len(fit), -1, -1, -1), beside, beside.abs()], -1)
        along = torch.einsum("sd,stqd->stq", self.directions(found.words), ways)
        moves = torch.einsum("sc,tqc->stq", named[:, :2], (2 * speed).tanh())
        hurries = torch.einsum("s,tq->stq", named[:, 2], (4 * speed.norm(dim=-1)).tanh())
        lies = torch.einsum("sc,stqc->stq", named[:, 3:], beside.tanh())
        along = along + self.gains[0] * moves - self.gains[1] * hurries + self.gains[2] * lies
        own = self.trust[0] * fit + self.trust[1] * mean + self.trust[2] + along
        signs = torch.stack(
            [
                own.logsumexp(-1),
                own.amax(-1),
                fit.amax(-1),
                mean.amax(-1),
                (mean - fit).gather(-1, own.argmax(-1, keepdim=True))[..., 0],
            ],
            -1,
        )
        chosen: Tensor = torch.cat([own, self.none(signs)], -1)
        return chosen


class MaskFilters(nn.Module):
    """Draws the mask of an instance: three 1 x 1 convolutions whose weights its features give.

    Their input is the pixel features, each pixel's place relative to the instance's box, and how
    much a pixel is like the one in the middle of the box.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = PIXELS + _PLACES
        self._sizes = [inputs * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN, 1]
        self.filters = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, sum(self._sizes))
        )

    def forward(self, pixels: Tensor, rows: Tensor, features: Tensor, boxes: Tensor) -> Tensor:
        """Returns logits [P, h, w].

        Args:
            pixels: [T, PIXELS, h, w].
            rows: int64 [P], the frame of each instance.
            features: [P, C], normalised.
            boxes: [P, 4], centre x, centre y, width, height in [0, 1] of the frame.
        """
        size = pixels.shape[-2:]
        unit = F.normalize(pixels, dim=1)[rows]
        middle = F.grid_sample(unit, (2 * boxes[:, None, None, :2] - 1), align_corners=False)
        alike = (F.normalize(middle, dim=1) * unit).sum(1, keepdim=True)
        inputs = torch.cat([pixels[rows], _places(boxes, size), alike], 1).flatten(2)
        weight_1, bias_1, weight_2, bias_2, weight_3, bias_3 = self.filters(features).split(
            self._sizes, dim=1
        )
        inner = weight_1.unflatten(1, (HIDDEN, -1)) @ inputs / math.sqrt(inputs.shape[1])
        inner = (inner + bias_1[..., None]).relu()
        inner = weight_2.unflatten(1, (HIDDEN, -1)) @ inner / math.sqrt(HIDDEN)
        inner = (inner + bias_2[..., None]).relu()
        logits: Tensor = (weight_3[:, None] @ inner + bias_3[..., None])[:, 0].unflatten(1, size)
        return logits


class GroundedNetwork(nn.Module):
    """The trained parts of the student; the grounder is not among them.

    Attributes:
        stand_in: from how many logits below the best track of the video on a frame's best instance
            is another object, and the target is not in the frame.

    Args:
        channels: C.
        embedding: W, of a word by itself.
        levels: number of the grounder's maps.
        width: channels of the pixel features at stride 4, a multiple of 4.
    """

    stand_in: Tensor

    def __init__(self, channels: int, embedding: int, levels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.pixels = PixelFeatures(channels, levels, width)
        self.chooser = Chooser(embedding)
        self.register_buffer("stand_in", torch.tensor(STAND_IN))
        self.masks = MaskFilters(channels)


def _block(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return convolution, nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


def _places(boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Returns each cell's place relative to each box, in box sizes: x, y, and the larger of both
    without its sign, [P, 3, h, w]; 3 box sizes at most."""
    height, width = size
    y = (torch.arange(height, device=boxes.device) + 0.5) / height
    x = (torch.arange(width, device=boxes.device) + 0.5) / width
    centre, extent = boxes[:, :2, None, None], boxes[:, 2:, None, None].clamp(min=0.02)
    across = ((x[None, None] - centre[:, 0]) / extent[:, 0]).expand(-1, height, -1)
    down = ((y[None, :, None] - centre[:, 1]) / extent[:, 1]).expand(-1, -1, width)
    return torch.stack([across, down, torch.maximum(across.abs(), down.abs())], 1).clamp(-3, 3)
