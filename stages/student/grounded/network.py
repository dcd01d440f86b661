"""The network of the student ``grounded``: an instance and its mask for each sentence.

The design follows ReferDINO (ICCV 2025) and CondInst: a frozen grounding model gives instances,
attention over the clip compares them, one is chosen for each sentence and frame, and filters made
from its features draw its mask.

Letters: T frames of a clip, Q instances of a frame, S sentences, C channels of the grounder, D of
the student, P masks, h w cells of the pixel features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.common.instances import Instances
from stages.student.grounded.motion import SoftTracks, along_tracks, velocities

PIXELS = 16
"""Channels of the pixel features, which have stride 2."""
HIDDEN = 8
"""Channels between the three dynamic 1 x 1 convolutions of a mask."""
_PLACES = 4
"""Inputs of a mask beside the pixel features."""
_SPEED = 30.0
"""Of a velocity, so that an object that crosses the frame in 30 frames has 1."""
_RATES = 8
_WAYS = 8
"""Velocity, speed, place beside the rivals, and distance from them; two numbers each."""


class PixelFeatures(nn.Module):
    """Pixel features of frames at stride 2: the frozen maps, top down, and two layers of the image.

    They depend on no sentence, so a frame's are computed once for all of its masks.

    Args:
        channels: C.
        levels: number of maps.
        width: channels at stride 4.
    """

    def __init__(self, channels: int, levels: int, width: int = 2 * PIXELS) -> None:
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
    """Reads from a sentence's words which way, and which place, its target prefers.

    It is a short way with few parameters, so that few sentences are enough to learn it. Words add
    up: 'left' says left, and 'moving' opens the gate of movement.

    Args:
        embedding: W.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.way = nn.Linear(embedding, _WAYS)
        self.gate = nn.Linear(embedding, _WAYS)

    def forward(self, words: Tensor) -> Tensor:
        """Returns weights [S, _WAYS] of words [S, W]."""
        weights: Tensor = self.way(words) * self.gate(words).sigmoid()
        return weights


class Chooser(nn.Module):
    """Chooses an instance, or none, for each sentence and frame of a clip.

    Attention runs over the instances of all frames, so that a choice can depend on movement and on
    the other instances. The result is added to the grounder's own score, so that an untrained
    chooser chooses what the grounder does.

    Args:
        channels: C.
        embedding: W, of a word by itself.
        width: D.
    """

    def __init__(self, channels: int, embedding: int, width: int) -> None:
        super().__init__()
        self.tracks = SoftTracks()
        self.seen = nn.Linear(channels, width)
        self.place = nn.Linear(4 * 2 * _RATES, width)
        self.moved = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width))
        self.time = nn.Linear(2 * _RATES, width)
        self.scored = nn.Linear(2, width)
        self.said = nn.Linear(channels + embedding, width)
        self.none = nn.Parameter(torch.zeros(width))
        self.clip = _attention(width)
        self.choice = nn.ModuleList([_attention(width)])
        self.score = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )
        self.directions = Directions(embedding)
        self.trust = nn.Parameter(torch.tensor([0.5, 0.5, 1.5]))

    def forward(self, features: Tensor, found: Instances) -> Tensor:
        """Returns logits [S, T, Q + 1] of a softmax over a frame's instances; the last is none.

        Args:
            features: [T, Q, C], the instances' normalised features.
            found: the instances.
        """
        frames, count = found.boxes.shape[:2]
        matches = self.tracks(found.features, found.boxes)
        speed = _SPEED * velocities(matches, found.boxes[..., :2])
        moving = torch.cat([speed, speed.abs()], -1)
        cells = self.seen(features) + self.place(_waves(found.boxes)) + self.moved(moving)
        when = self.time(_waves(torch.arange(frames, device=cells.device)[:, None] / 8))
        cells = self.clip((cells + when[:, None]).flatten(0, 1)[None])[0].unflatten(
            0, (frames, count)
        )
        fit = torch.logit(found.scores.clamp(1e-4, 1 - 1e-4))
        fits = torch.stack([fit, along_tracks(matches, fit)], -1)
        said = self.said(torch.cat([found.sentences, found.words], -1))[:, None, None]
        each = cells + self.scored(fits) + said
        none = (self.none + said + when[:, None]).expand(-1, frames, 1, -1)
        both = torch.cat([each, none], 2).flatten(1, 2)
        for layer in self.choice:
            both = layer(both)
        logits = self.score(both)[..., 0].unflatten(1, (frames, count + 1))
        centres = found.boxes[..., :2]
        rivals = torch.einsum("stq,tqc->stc", fits.mean(-1).softmax(-1), centres)
        beside = 4 * (centres - rivals[:, :, None])
        ways = torch.cat([moving.tanh().expand(len(fit), -1, -1, -1), beside, beside.abs()], -1)
        along = torch.einsum("sd,stqd->stq", self.directions(found.words), ways)
        own = fits @ self.trust[:2] + self.trust[2] + along
        chosen: Tensor = logits + F.pad(own, (0, 1))
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

    Args:
        channels: C.
        embedding: W, of a word by itself.
        levels: number of the grounder's maps.
        width: D, a multiple of 4.
    """

    def __init__(self, channels: int, embedding: int, levels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.pixels = PixelFeatures(channels, levels)
        self.chooser = Chooser(channels, embedding, width)
        self.masks = MaskFilters(channels)


def _block(inputs: int, outputs: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
    return convolution, nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)


def _attention(width: int) -> nn.Module:
    return nn.TransformerEncoderLayer(
        width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
    )


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)


def _waves(values: Tensor) -> Tensor:
    """Returns the sine embedding [..., n * 2 * _RATES] of values [..., n]."""
    rate = math.pi * 2 ** (torch.arange(_RATES, device=values.device) / 2)
    angle = values[..., None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)


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
