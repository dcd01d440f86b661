"""segment-anything's self-attention with PyTorch's fused kernels and relative positions.

The package computes the scores of all tokens with all tokens, adds the decomposed relative
positions and takes the softmax. This takes three arrays of that size. Here only the relative
positions do, as a bias for ``scaled_dot_product_attention``, for some rows of queries at a time.

Letters: B windows or frames, N heads, C channels of a head, h w tokens down and across. Queries,
keys and values are [B, N, h * w, C].
"""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor, nn
from torch.nn import functional as F

BIAS_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Entries of the bias that are held at a time. On a CPU 16 MB of float32 stay near; more is slower
(measured). A GPU wants fewer and larger calls; its figure is an estimate and was not measured."""


class FusedAttention(nn.Module):
    """segment-anything's ``Attention`` with the same parameter names and result, up to rounding."""

    def __init__(self, explicit: Attention) -> None:
        super().__init__()
        self.num_heads: int = explicit.num_heads
        self.scale: float = explicit.scale
        self.qkv, self.proj = explicit.qkv, explicit.proj
        self.use_rel_pos: bool = explicit.use_rel_pos
        if self.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = explicit.rel_pos_h, explicit.rel_pos_w

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the attention of [B, h, w, N * C], in the same shape."""
        count, h, w, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(count, h * w, 3, self.num_heads, -1)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if not self.use_rel_pos:
            found = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        else:
            parts = self._in_parts(queries, keys, values, h, w)
            found = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        joined: Tensor = self.proj(found.transpose(1, 2).reshape(count, h, w, -1))
        return joined

    def _in_parts(
        self, queries: Tensor, keys: Tensor, values: Tensor, h: int, w: int
    ) -> list[Tensor]:
        """Yields rows of queries, few enough at a time that their bias stays small."""
        along_h = get_rel_pos(h, h, self.rel_pos_h)
        along_w = get_rel_pos(w, w, self.rel_pos_w)
        count, heads = queries.shape[:2]
        room = BIAS_ELEMENTS.get(queries.device.type, BIAS_ELEMENTS["cpu"])
        rows = min(h, max(1, room // (count * heads * w * h * w)))
        parts = []
        for start in range(0, h, rows):
            q_part = queries[:, :, start * w : (start + rows) * w]
            grid = q_part.unflatten(2, (-1, w))
            down = torch.einsum("bnhwc,hkc->bnhwk", grid, along_h[start : start + rows])
            across = torch.einsum("bnhwc,wkc->bnhwk", grid, along_w)
            bias = (down[..., :, None] + across[..., None, :]).flatten(4).flatten(2, 3)
            parts.append(
                F.scaled_dot_product_attention(
                    q_part, keys, values, attn_mask=bias, scale=self.scale
                )
            )
        return parts


def fuse_attention(sam: Sam) -> None:
    """Puts :class:`FusedAttention` into every block of the image encoder, with its weights."""
    for block in sam.image_encoder.blocks:
        if isinstance(block.attn, Attention):
            block.attn = FusedAttention(block.attn)
