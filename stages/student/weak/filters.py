"""Dynamic filters: 1 x 1 convolutions that draw a mask, with weights that a network computes.

Letters: N frames, T frames of a clip, K filters, D channels of their input, h w cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class DynamicFilters:
    """The shape of dynamic filters, and how they are applied.

    Attributes:
        inputs: D, the two coordinates of a cell among them.
        layers: number of convolutions, two at least, with ReLU between them.
        hidden: channels between the convolutions.
    """

    inputs: int
    layers: int = 2
    hidden: int = 8

    @property
    def sizes(self) -> list[int]:
        """The sizes of theta's parts: weights and biases of each convolution, in order."""
        return [size for given, made in self._shapes for size in (given * made, made)]

    @property
    def count(self) -> int:
        """The numbers of one theta."""
        return sum(self.sizes)

    @property
    def last(self) -> int:
        """The numbers of the last convolution, which are theta's last."""
        return self.hidden + 1

    def masks(self, cells: Tensor, theta: Tensor) -> Tensor:
        """Returns the logits [N, h, w] of each frame by its own filters (SimRVOS, eq 5).

        Args:
            cells: [N, D, h, w].
            theta: [N, count].
        """
        (first, bias), *others = self._parts(theta)
        seen = first @ cells.flatten(2) / math.sqrt(self.inputs) + bias[..., None]
        for weight, bias in others:
            seen = weight @ seen.relu() + bias[..., None]
        logits: Tensor = seen[:, 0].unflatten(1, cells.shape[-2:])
        return logits

    def crossed(self, cells: Tensor, theta: Tensor) -> Tensor:
        """Returns the logits [T, K, h, w] of every frame by all filters (SimRVOS, eq 7).

        The first convolutions are one product, without a copy of the cells.

        Args:
            cells: [T, D, h, w].
            theta: [K, count]. If it is of the same frames, the diagonal is :meth:`masks`.
        """
        (first, bias), *others = self._parts(theta)
        flat = cells.flatten(2)
        seen = (first.reshape(-1, self.inputs) @ flat / math.sqrt(self.inputs)).unflatten(
            1, (-1, self.hidden)
        )
        seen = seen + bias[..., None]
        for weight, bias in others:
            seen = torch.einsum("koi,tkin->tkon", weight, seen.relu()) + bias[..., None]
        logits: Tensor = seen[:, :, 0].unflatten(2, cells.shape[-2:])
        return logits

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        """Channels in and out of each convolution."""
        return list(pairwise([self.inputs, *[self.hidden] * (self.layers - 1), 1]))

    def _parts(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns weights [K, out, in] and biases [K, out] of each convolution."""
        parts = theta.split(self.sizes, dim=1)
        return [
            (weight.unflatten(1, (made, given)), bias)
            for weight, bias, (given, made) in zip(
                parts[::2], parts[1::2], self._shapes, strict=True
            )
        ]


def with_coordinates(features: Tensor, centre: Tensor | None = None) -> Tensor:
    """Appends each cell's x and y to its features: [N, C + 2, h, w].

    They go from -1 to 1 over the frame.

    Args:
        features: [N, C, h, w].
        centre: [N, 2], x and y from 0 to 1 of the place that is (0, 0) in place of the frame's
            middle; None for the middle.
    """
    count, _, height, width = features.shape
    x = torch.linspace(-1, 1, width, device=features.device).expand(count, 1, height, width)
    y = torch.linspace(-1, 1, height, device=features.device)[:, None].expand_as(x)
    if centre is not None:
        origin = (2 * centre - 1)[..., None, None]
        x, y = x - origin[:, :1], y - origin[:, 1:]
    return torch.cat([features, x, y], dim=1)
