"""Grounding DINO's fusion of text and image, without projecting the image.

In each of six layers, the package's ``BiMultiHeadAttention`` projects every cell of all levels to
1,024 channels twice and back once, for attention with a caption of a few tokens. Here those
projections are multiplied into the tokens (:mod:`stages.common.folded_attention`).
"""

from __future__ import annotations

from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention
from groundingdino.models.GroundingDINO.groundingdino import GroundingDINO
from torch import Tensor, nn

from stages.common.folded_attention import contributions, gathered, scores


class FoldedFusion(nn.Module):
    """``BiMultiHeadAttention`` with the same parameter names and result, up to rounding.

    This holds while scores are below 50,000, at which the package clips them. There is no dropout,
    as in Grounding DINO.
    """

    def __init__(self, explicit: BiMultiHeadAttention) -> None:
        super().__init__()
        self.num_heads: int = explicit.num_heads
        self.v_proj, self.l_proj = explicit.v_proj, explicit.l_proj
        self.values_v_proj, self.values_l_proj = explicit.values_v_proj, explicit.values_l_proj
        self.out_v_proj, self.out_l_proj = explicit.out_v_proj, explicit.out_l_proj

    def forward(
        self,
        v: Tensor,
        l: Tensor,  # noqa: E741 - the package's name
        attention_mask_v: Tensor | None = None,
        attention_mask_l: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns what cells and tokens get from each other.

        Args:
            v: cells of all levels [P, S, C].
            l: tokens [P, L, C].
            attention_mask_v: bool [P, S], True for padding.
            attention_mask_l: bool [P, L], True for padding.

        Returns:
            [P, S, C] for the cells and [P, L, C] for the tokens.
        """
        heads = self.num_heads
        found = scores(self.l_proj(l), v, self.v_proj, heads)
        of_cells = found
        if attention_mask_v is not None:
            of_cells = found.masked_fill(attention_mask_v[:, None], float("-inf"))
        tokens = self.out_l_proj(gathered(of_cells.softmax(-1), v, self.values_v_proj, heads))
        of_tokens: Tensor = found.unflatten(1, (heads, -1))
        if attention_mask_l is not None:
            of_tokens = of_tokens.masked_fill(attention_mask_l[:, None, :, None], float("-inf"))
        shares = of_tokens.softmax(2).flatten(1, 2)
        given = contributions(self.values_l_proj(l), self.out_v_proj, heads)
        return shares.transpose(1, 2) @ given, tokens


def fold_fusion(model: GroundingDINO) -> None:
    """Puts :class:`FoldedFusion` into the transformer, with the model's weights."""
    for block in model.transformer.encoder.fusion_layers:
        if isinstance(block.attn, BiMultiHeadAttention):
            block.attn = FoldedFusion(block.attn)
