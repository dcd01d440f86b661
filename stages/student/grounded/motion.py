"""Which instances of a clip's frames are the same object, softly, and how they move."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REACH = 3
"""Frames, before and after, that a displacement is measured to."""

_LIKENESS, _NEARNESS = 5.0, 10.0
"""Start of the two learned weights. An instance next to itself then outweighs a look-alike that is
a third of the frame away."""


class SoftTracks(nn.Module):
    """Matches the instances of each frame with those of every other frame.

    A match is likely if features are alike and boxes are near, in relation to the time between.
    Only the weights of likeness and distance are learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([_LIKENESS, _NEARNESS]))

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Returns the matches [T, T, Q, Q]: for each instance of the first frame, the probabilities
        of the second frame's instances. Within a frame, an instance is itself.

        Args:
            features: [T, Q, C].
            boxes: [T, Q, 4], centre x, centre y, width, height.
        """
        frames, count = boxes.shape[:2]
        unit = F.normalize(features, dim=-1).flatten(0, 1)
        alike = (unit @ unit.T).unflatten(0, (frames, count)).unflatten(2, (frames, count))
        flat = boxes.flatten(0, 1)
        apart = torch.cdist(flat, flat, p=1)
        apart = apart.unflatten(0, (frames, count)).unflatten(2, (frames, count))
        time = torch.arange(frames, device=boxes.device)
        gap = (time[:, None] - time).abs()
        slower = apart / gap.clamp(min=1)[:, None, :, None]
        match = (self.weights[0] * alike - self.weights[1] * slower).transpose(1, 2).softmax(-1)
        itself = torch.eye(count, device=boxes.device).expand_as(match)
        return torch.where((gap == 0)[..., None, None], itself, match)


def velocities(matches: Tensor, centres: Tensor) -> Tensor:
    """Returns velocities [T, Q, 2], x and y in shares of the frame per frame; 0 for one frame.

    They are the mean displacement to the matches in up to ``REACH`` frames before and after.

    Args:
        matches: [T, T, Q, Q].
        centres: [T, Q, 2].
    """
    there = torch.einsum("tuqp,upc->tuqc", matches, centres)
    time = torch.arange(len(centres), device=centres.device)
    gap = (time - time[:, None]).to(centres.dtype)
    near = ((gap != 0) & (gap.abs() <= REACH)).to(centres.dtype)
    share = (
        near / near.sum(1, keepdim=True).clamp(min=1) / gap.where(gap != 0, torch.ones_like(gap))
    )
    moved: Tensor = ((there - centres[:, None]) * share[..., None, None]).sum(1)
    return moved


def along_tracks(matches: Tensor, values: Tensor) -> Tensor:
    """Returns the mean of values [S, T, Q] over the matches in all frames, [S, T, Q]."""
    mean: Tensor = torch.einsum("tuqp,sup->stq", matches, values) / len(matches)
    return mean
