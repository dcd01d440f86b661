"""Grounding DINO's deformable attention as one weighted sum over rows of a table.

The package samples level by level with ``grid_sample``, stacks what it finds and multiplies it with
the attention weights: three arrays of all sampled features. A bilinear sample is a weighted sum of
four cells, and the attention a weighted sum of samples, so the whole is one weighted sum of rows of
the values, which ``embedding_bag`` gives without holding what it sums.

Letters: B pairs, S cells of all levels, Q queries, N heads, C channels of a head, L levels, P
points.
"""

from __future__ import annotations

import torch
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from groundingdino.models.GroundingDINO.ms_deform_attn import MultiScaleDeformableAttention
from torch import Tensor, nn
from torch.nn import functional as F


def sample_and_sum(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """What the package's ``multi_scale_deformable_attn_pytorch`` gives, but for rounding.

    Args:
        value: [B, S, N, C].
        shapes: int64 [L, 2], height and width of the levels.
        locations: [B, Q, N, L, P, 2], x and y; 0 to 1 is the frame, beyond it is nothing.
        weights: [B, Q, N, L, P].

    Returns:
        [B, Q, N * C].
    """
    count, cells, heads, channels = value.shape
    queries = locations.shape[1]
    device = value.device
    size = shapes.to(device).flip(1)  # width, height
    first = F.pad((size[:, 0] * size[:, 1]).cumsum(0)[:-1], (1, 0)).int()
    extent = size[:, None].to(locations.dtype)
    place = locations * extent - 0.5
    low = place.floor()
    share = place - low
    low = low.clamp(-2, 1 << 20).int()
    wide, high = size[:, :1].int(), size[:, 1:].int()
    start = (
        first[:, None]
        + torch.arange(count, device=device, dtype=torch.int32).view(-1, 1, 1, 1, 1) * cells
    )
    head = torch.arange(heads, device=device, dtype=torch.int32)[:, None, None]
    rows = torch.empty(*weights.shape, 4, dtype=torch.int32, device=device)
    parts = torch.empty(*weights.shape, 4, dtype=weights.dtype, device=device)
    for corner, (down, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        x, y = low[..., 0] + right, low[..., 1] + down
        along = share[..., 0] if right else 1 - share[..., 0]
        across = share[..., 1] if down else 1 - share[..., 1]
        inside = (x >= 0) & (x < wide) & (y >= 0) & (y < high)
        cell = start + y.clamp_min(0).minimum(high - 1) * wide + x.clamp_min(0).minimum(wide - 1)
        rows[..., corner] = cell * heads + head
        parts[..., corner] = weights * along * across * inside
    # embedding_bag counts entries in the type of the rows.
    rows = rows.long() if rows.numel() > torch.iinfo(torch.int32).max else rows
    summed: Tensor = F.embedding_bag(
        rows.view(count * queries * heads, -1),
        value.reshape(-1, channels),
        mode="sum",
        per_sample_weights=parts.view(count * queries * heads, -1).to(value.dtype),
    )
    return summed.view(count, queries, heads * channels)


class FusedDeformableAttention(nn.Module):
    """``MultiScaleDeformableAttention`` under the same parameter names, with the same result but
    for rounding."""

    def __init__(self, explicit: MultiScaleDeformableAttention) -> None:
        super().__init__()
        self.batch_first: bool = explicit.batch_first
        self.num_heads: int = explicit.num_heads
        self.num_levels: int = explicit.num_levels
        self.num_points: int = explicit.num_points
        self.sampling_offsets = explicit.sampling_offsets
        self.attention_weights = explicit.attention_weights
        self.value_proj, self.output_proj = explicit.value_proj, explicit.output_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
    ) -> Tensor:
        """As the package's: ``reference_points`` [B, Q, L, 2 or 4]; ``key`` and
        ``level_start_index`` are not looked at."""
        assert reference_points is not None and spatial_shapes is not None
        value = query if value is None else value
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        count, queries, _ = query.shape
        table = self.value_proj(value)
        if key_padding_mask is not None:
            table = table.masked_fill(key_padding_mask[..., None], 0.0)
        grid = (count, queries, self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).view(*grid, 2)
        weights = self.attention_weights(query).view(*grid[:3], -1).softmax(-1).view(grid)
        reference = reference_points[:, :, None, :, None]
        if reference.shape[-1] == 2:
            places = reference + offsets / spatial_shapes.flip(1)[:, None]
        else:
            places = reference[..., :2] + offsets / self.num_points * reference[..., 2:] * 0.5
        table = table.view(count, table.shape[1], self.num_heads, -1)
        found: Tensor = self.output_proj(sample_and_sum(table, spatial_shapes, places, weights))
        return found if self.batch_first else found.transpose(0, 1)


def fuse_deformable(model: GroundingDINO) -> None:
    """Puts :class:`FusedDeformableAttention` into the transformer; weights stay in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MultiScaleDeformableAttention):
                setattr(parent, name, FusedDeformableAttention(child))
