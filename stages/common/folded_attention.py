"""Attention between the many cells of a frame and a few tokens, without projecting the cells.

``q . (W x)`` is ``(q W) . x``. With the projection multiplied into the tokens, a cell is multiplied
with heads x tokens rows, not with all channels of the projection. This takes fewer multiplications
while the rows are fewer than the channels, and needs no projected copy of the cells.

Letters: B items, T tokens, K cells, N heads, c channels of a head, C channels of a cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def scores(tokens: Tensor, cells: Tensor, projection: nn.Linear, heads: int) -> Tensor:
    """Returns the scaled scores of tokens with cells, ordered by head: [B, N * T, K].

    Args:
        tokens: [B, T, N * c], projected.
        cells: [B, K, C].
        projection: projection of the cells, from C to N * c channels.
    """
    asked = _by_head(tokens, heads)
    asked = asked / math.sqrt(asked.shape[-1])
    rows = (asked @ _by_head_of_output(projection, heads)).flatten(1, 2)
    offset = (asked @ projection.bias.view(heads, -1, 1)).flatten(1, 2)
    return torch.baddbmm(offset, rows, cells.transpose(1, 2))


def gathered(shares: Tensor, cells: Tensor, projection: nn.Linear, heads: int) -> Tensor:
    """Returns weighted sums of projected cells: [B, T, N * c].

    Args:
        shares: [B, N * T, K]; those of a row sum to 1, so that the bias counts once.
        cells: [B, K, C].
        projection: projection of the cells, from C to N * c channels.
    """
    mixed: Tensor = (shares @ cells).unflatten(1, (heads, -1))
    values = mixed @ _by_head_of_output(projection, heads).transpose(1, 2)
    return values.transpose(1, 2).flatten(2) + projection.bias


def contributions(values: Tensor, projection: nn.Linear, heads: int) -> Tensor:
    """Returns what each token contributes to a cell that attends to it alone: [B, N * T, C].

    Args:
        values: of the tokens, [B, T, N * c], projected.
        projection: projection of the attention's result, from N * c to C channels. The shares of a
            cell sum to 1 in every head, so each head adds its part of the bias.
    """
    by_head = projection.weight.T.unflatten(0, (heads, -1))
    given: Tensor = _by_head(values, heads) @ by_head + projection.bias / heads
    return given.flatten(1, 2)


def _by_head(tokens: Tensor, heads: int) -> Tensor:
    """Splits [B, T, N * c] into heads: [B, N, T, c]."""
    apart: Tensor = tokens.unflatten(-1, (heads, -1))
    return apart.transpose(1, 2)


def _by_head_of_output(projection: nn.Linear, heads: int) -> Tensor:
    """Returns the weight of a projection to N * c channels, as [N, c, C]."""
    apart: Tensor = projection.weight.unflatten(0, (heads, -1))
    return apart
