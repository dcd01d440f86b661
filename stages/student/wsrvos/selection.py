"""Bi-directional vision-language feature selection and interaction (WSRVOS, arXiv 2604.17797).

Each modality attends only to those tokens of the other that are most similar to it. Background
cells and function words take no part in the attention.

Letters: P pairs of frame and sentence, n cells, m words, k kept tokens, C channels, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NEVER = -1e4
"""In place of minus infinity: a row that is padding throughout gives no NaN."""


def cosine_similarity(cells: Tensor, words: Tensor) -> Tensor:
    """Returns the cosine of [P, n, C] with [P, m, C]: [P, n, m]; 0 for a token of zeros."""
    return F.normalize(cells, dim=-1) @ F.normalize(words, dim=-1).transpose(1, 2)


def select_tokens(
    cells: Tensor, words: Tensor, usable: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Selects the tokens of each modality that are most similar to the other's.

    A token's similarity is its cosine with the nearest token of the other modality. The selection
    has no gradient, but the selected tokens have.

    Args:
        cells: [P, n, C].
        words: [P, m, C].
        usable: bool [P, m], False for padding.
        count: k, tokens of each modality; all if it has fewer.

    Returns:
        Rows of cells, int64 [P, min(k, n)]; rows of words, int64 [P, min(k, m)]; and whether those
        are words and not padding, bool of the same shape.
    """
    with torch.no_grad():
        likeness = cosine_similarity(cells, words).masked_fill(~usable[:, None], _NEVER)
        best_cells = likeness.amax(2).topk(min(count, cells.shape[1]), dim=1).indices
        best_words = likeness.amax(1).topk(min(count, words.shape[1]), dim=1).indices
    return best_cells, best_words, usable.gather(1, best_words)


class MultiHeadCrossAttention(nn.Module):
    """x + W_o [head_1, ..., head_h], each head the scaled attention of x over y.

    Args:
        channels: C, a multiple of ``heads``.
        heads: h.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels for {heads} heads; expected a multiple of heads")
        self._heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, y: Tensor, usable: Tensor | None = None) -> Tensor:
        """Returns x [P, n, C] after attention to y [P, m, C], where ``usable`` [P, m] is True."""
        query, key, value = (
            part.unflatten(2, (self._heads, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(y), self.value(y))
        )
        mask = None if usable is None else usable[:, None, None]
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        attended: Tensor = x + self.out(heads.transpose(1, 2).flatten(2))
        return attended


class Interaction(nn.Module):
    """One depth: selection, then cross-attention in both directions with separate parameters.

    Every cell attends to the selected words and every word to the selected cells, both as they were
    before this depth. Each modality is normalised before it is compared and attended to. Otherwise
    what earlier depths added would dominate the scale.

    Args:
        count: k tokens kept of each modality; None keeps all (no selection).
    """

    def __init__(self, channels: int, heads: int, count: int | None) -> None:
        super().__init__()
        self.norm_cells = nn.LayerNorm(channels)
        self.norm_words = nn.LayerNorm(channels)
        self.to_cells = MultiHeadCrossAttention(channels, heads)
        self.to_words = MultiHeadCrossAttention(channels, heads)
        self._count = count

    def forward(self, cells: Tensor, words: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Cells [P, n, C] and words [P, m, C] with ``usable`` bool [P, m] to the same shapes."""
        cells, words = self.norm_cells(cells), self.norm_words(words)
        if self._count is None:
            return self.to_cells(cells, words, usable), self.to_words(words, cells)
        cell_rows, word_rows, are_words = select_tokens(cells, words, usable, self._count)
        kept_cells, kept_words = _take(cells, cell_rows), _take(words, word_rows)
        return self.to_cells(cells, kept_words, are_words), self.to_words(words, kept_cells)


def _take(tokens: Tensor, rows: Tensor) -> Tensor:
    """Returns rows int64 [P, k] of tokens [P, n, C]."""
    return tokens.gather(1, rows[..., None].expand(-1, -1, tokens.shape[2]))
