"""Grounding DINO's deformable attention as one weighted sum over rows of a table.

The package samples level by level with ``grid_sample``, stacks the samples and multiplies them with
the attention weights. This takes three arrays of all sampled features. A bilinear sample is a
weighted sum of four cells, and the attention is a weighted sum of samples. So the result is one
weighted sum of rows of the values, which ``embedding_bag`` computes without storing the terms.

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
    """Returns the package's ``multi_scale_deformable_attn_pytorch``, up to rounding.

    Args:
        value: [B, S, N, C].
        shapes: int64 [L, 2], height and width of the levels.
        locations: [B, Q, N, L, P, 2], x and y. 0 to 1 is the frame; outside of it values are 0.
        weights: [B, Q, N, L, P].

    Returns:
        [B, Q, N * C].
    """
    count, cells, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    shapes = shapes.to(value.device)
    # An entry a level and point: loops run over all of them, and not over a level's few points.
    high, wide = shapes.repeat_interleave(points, 0).T.contiguous()
    first = F.pad(shapes.prod(1).cumsum(0)[:-1], (1, 0)).repeat_interleave(points)
    entries = locations.flatten(3, 4)
    across = _neighbours(entries[..., 0] * wide - 0.5, wide)
    down = _neighbours(entries[..., 1] * high - 0.5, high)
    item = torch.arange(count, device=value.device)[:, None, None, None] * cells
    start = (item + first).int()
    head = torch.arange(heads, device=value.device, dtype=torch.int32)[:, None]
    given = weights.flatten(3)
    # [B, Q, N, 4, L * P]: a bag's entries lie together, in whatever order.
    corners = [(y, x) for y in down for x in across]
    rows = torch.stack(
        [(start + y * wide.int() + x) * heads + head for (y, _), (x, _) in corners], 3
    )
    parts = torch.stack([given * along_y * along_x for (_, along_y), (_, along_x) in corners], 3)
    # embedding_bag counts entries in the type of the rows.
    rows = rows.long() if rows.numel() > torch.iinfo(torch.int32).max else rows
    summed: Tensor = F.embedding_bag(
        rows.view(count * queries * heads, -1),
        value.reshape(-1, channels),
        mode="sum",
        per_sample_weights=parts.view(count * queries * heads, -1).to(value.dtype),
    )
    return summed.view(count, queries, heads * channels)


def _neighbours(place: Tensor, extent: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Returns the cells on both sides of places along an axis, and their weights in a sample.

    Args:
        place: in cells; the centre of the first is at 0.
        extent: number of cells along the axis.

    Returns:
        Two pairs of int32 cells within the axis and their weights, 0 for a cell outside of it.
    """
    low = place.floor()
    share = place - low
    cell, end = low.clamp(-2, 1 << 20).int(), extent.int()
    found = []
    for side, part in ((cell, 1 - share), (cell + 1, share)):
        inside = (side >= 0) & (side < end)
        found.append((side.clamp_min(0).minimum(end - 1), part * inside))
    return found


class FusedDeformableAttention(nn.Module):
    """``MultiScaleDeformableAttention`` with the same parameters and result, up to rounding."""

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
        """Returns the package's result. ``key`` and ``level_start_index`` are not used.

        Args:
            reference_points: [B, Q, L, 2 or 4].
        """
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
        offsets = self.sampling_offsets(query).unflatten(-1, (self.num_heads, -1))
        weights = self.attention_weights(query).view(*grid[:3], -1).softmax(-1).view(grid)
        # An entry a level, point and axis, as the offsets have them.
        reference = reference_points.repeat_interleave(self.num_points, 2)[:, :, None]
        if reference.shape[-1] == 2:
            size = spatial_shapes.flip(1).repeat_interleave(self.num_points, 0)
            places = reference.flatten(3) + offsets / size.flatten()
        else:
            extent = reference[..., 2:].flatten(3) * (0.5 / self.num_points)
            places = reference[..., :2].flatten(3) + offsets * extent
        places = places.view(*grid, 2)
        table = table.view(count, table.shape[1], self.num_heads, -1)
        found: Tensor = self.output_proj(sample_and_sum(table, spatial_shapes, places, weights))
        return found if self.batch_first else found.transpose(0, 1)


def fuse_deformable(model: GroundingDINO) -> None:
    """Puts :class:`FusedDeformableAttention` into the transformer, with the model's weights."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MultiScaleDeformableAttention):
                setattr(parent, name, FusedDeformableAttention(child))
