"""How ReferFormer brings words into features of frames.

Letters: N frames, L words, C channels, n cells, h w cells of a map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.student.simrvos.model import positions


class Fusion(nn.Module):
    """Early fusion: each cell is multiplied by what it reads from the words.

    Args:
        channels: C.
        heads: of the attention.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, cells: Tensor, words: Tensor, usable: Tensor) -> Tensor:
        """Returns [N, n, C] from cells [N, n, C] and words [N, L, C], where ``usable`` [N, L]."""
        read: Tensor = self.attention(cells, words, words, ~usable, need_weights=False)[0]
        return cells * read


class CrossModalBlock(nn.Module):
    """A transformer layer of a map: attention within its clip, attention to words, feed-forward.

    Attention within the clip is the only place where frames see each other, unless the image
    encoder is a video encoder. It runs on a map that is ``reduced`` times coarser.

    Args:
        channels: C.
        heads: of the attentions.
        feedforward: channels within.
        reduced: of each side.
    """

    def __init__(self, channels: int, heads: int, feedforward: int, reduced: int) -> None:
        super().__init__()
        self._reduced = reduced
        self.within = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.to_words = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.feedforward = nn.Sequential(
            nn.Linear(channels, feedforward), nn.ReLU(), nn.Linear(feedforward, channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self, level: Tensor, words: Tensor, usable: Tensor, lengths: Sequence[int]
    ) -> Tensor:
        """Returns a map [N, C, h, w] of a map, words [N, L, C] and the lengths of the clips."""
        size = level.shape[2], level.shape[3]
        place = positions(*size, level.shape[1], level)
        cells = level.flatten(2).transpose(1, 2)
        cells = self.norms[0](cells + self._within(level, place, lengths))
        read, _ = self.to_words(cells + place, words, words, ~usable, need_weights=False)
        cells = self.norms[1](cells + read)
        cells = self.norms[2](cells + self.feedforward(cells))
        seen: Tensor = cells.transpose(1, 2).unflatten(2, size)
        return seen

    def _within(self, level: Tensor, place: Tensor, lengths: Sequence[int]) -> Tensor:
        """Returns what the cells read from all cells of their clip, [N, h * w, C]."""
        size = level.shape[-2:]
        coarse = [max(1, side // self._reduced) for side in size]
        placed = level + place.transpose(1, 2).unflatten(2, size)
        keys, values = (F.interpolate(item, coarse, mode="nearest") for item in (placed, level))
        found = []
        for key, value in zip(keys.split(list(lengths)), values.split(list(lengths)), strict=True):
            key, value = (item.permute(0, 2, 3, 1).flatten(0, 2)[None] for item in (key, value))
            read, _ = self.within(key, key, value, need_weights=False)
            found.append(read[0].unflatten(0, (-1, *coarse)).permute(0, 3, 1, 2))
        wide = F.interpolate(torch.cat(found), size, mode="bilinear", align_corners=False)
        return wide.flatten(2).transpose(1, 2)


class CrossModalPyramid(nn.Module):
    """FPN over the transformer's maps and the finest of the encoder, with words at every level.

    Args:
        finest: channels of the encoder's finest map.
        levels: number of the transformer's maps.
        channels: C.
        heads, feedforward: of the blocks.
    """

    def __init__(
        self, finest: int, levels: int, channels: int, heads: int, feedforward: int
    ) -> None:
        super().__init__()
        counts = [finest, *[channels] * levels]
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, channels, 1), nn.GroupNorm(8, channels))
            for count in counts
        )
        self.blocks = nn.ModuleList(
            CrossModalBlock(channels, heads, feedforward, max(1, 8 >> level))
            for level in range(len(counts))
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GroupNorm(8, channels),
                nn.ReLU(inplace=True),
            )
            for _ in counts
        )
        self.out = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, maps: Sequence[Tensor], words: Tensor, usable: Tensor, lengths: Sequence[int]
    ) -> Tensor:
        """Returns [N, C, h, w] at the size of the first of maps [N, c, h_i, w_i], finest first."""
        top: Tensor | None = None
        for level in reversed(range(len(maps))):
            seen = self.blocks[level](self.lateral[level](maps[level]), words, usable, lengths)
            if top is not None:
                seen = seen + F.interpolate(top, seen.shape[-2:], mode="nearest")
            top = self.smooth[level](seen)
        features: Tensor = self.out(top)
        return features
