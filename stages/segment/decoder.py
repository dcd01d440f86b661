"""SAM's mask decoder for boxes of many frames, with fewer multiplications.

The package's ``TwoWayTransformer`` projects all cells of a frame for every box in each attention. A
box has only seven tokens. With eight heads they are 56 rows, fewer than the 128 channels of a
projection. So the projections are multiplied into the tokens (``folded_attention``), which takes a
third of the multiplications. The upscaling works on each cell alone, so it leaves out the padding.

Letters: B frames, n boxes of all of them, T tokens of a box, C channels, s the side of the
embedding, K = s * s cells, h w low-resolution cells that cover the frame.
"""

from __future__ import annotations

import torch
from segment_anything.modeling import MaskDecoder, Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from stages.common.folded_attention import contributions, gathered, scores
from stages.common.mask_resolution import LOW_RESOLUTION, low_resolution_size

UPSCALING = 4
"""Low-resolution cells along a side of an embedding's cell."""


def decode_boxes(
    sam: Sam, embeddings: Tensor, frames: Tensor, boxes: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Decodes one mask per box, from the embedding of the box's frame.

    The result is that of the package's ``MaskDecoder``, up to rounding, without the padding
    (:func:`stages.common.mask_resolution.low_resolution_size`).

    Args:
        embeddings: [B, C, s, s].
        frames: int64 [n], the frame of each box.
        boxes: float [n, 4], xyxy in pixels of the square input.
        size: height and width of the frames in pixels.

    Returns:
        Mask logits [n, h, w] and predicted IoU [n], of the single-mask output.
    """
    decoder, prompts = sam.mask_decoder, sam.prompt_encoder
    dtype = embeddings.dtype
    corners = prompts(points=None, boxes=boxes, masks=None)[0].to(dtype)
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([learned.expand(len(boxes), -1, -1), corners], 1)
    no_mask = prompts.no_mask_embed.weight.to(dtype)
    places = prompts.get_dense_pe().to(dtype).flatten(2).transpose(1, 2)
    cells = (embeddings.flatten(2).transpose(1, 2) + no_mask).contiguous()[frames]
    found, cells = _transform(decoder, tokens, cells, places)
    rows, columns = low_resolution_size(*size, embeddings.shape[-1] * UPSCALING * LOW_RESOLUTION)
    grid = cells.unflatten(1, embeddings.shape[-2:])
    covered = grid[:, : -(-rows // UPSCALING), : -(-columns // UPSCALING)]
    weights = decoder.output_hypernetworks_mlps[0](found[:, 1])
    masks = _upscale(decoder, covered, weights)[:, :rows, :columns]
    return masks, decoder.iou_prediction_head(found[:, 0])[:, 0]


def _transform(
    decoder: MaskDecoder, tokens: Tensor, cells: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs the two-way transformer on tokens [n, T, C] and cells [n, K, C] at places [1, K, C].

    Returns:
        Tokens and cells, in their shapes.
    """
    transformer, queries = decoder.transformer, tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(queries, queries, queries)
        else:
            placed = queries + tokens
            queries = queries + layer.self_attn(placed, placed, queries)
        queries = layer.norm1(queries)
        placed_cells = cells + places
        looked = _tokens_to_cells(
            layer.cross_attn_token_to_image, queries + tokens, cells, placed_cells
        )
        queries = layer.norm2(queries + looked)
        queries = layer.norm3(queries + layer.mlp(queries))
        cells = layer.norm4(
            _cells_to_tokens(
                layer.cross_attn_image_to_token, cells, placed_cells, queries + tokens, queries
            )
        )
    looked = _tokens_to_cells(
        transformer.final_attn_token_to_image, queries + tokens, cells, cells + places
    )
    return transformer.norm_final_attn(queries + looked), cells


def _tokens_to_cells(
    attention: Attention, queries: Tensor, cells: Tensor, placed_cells: Tensor
) -> Tensor:
    """Returns ``attention(q=queries, k=placed_cells, v=cells)``: [n, T, C]."""
    heads = attention.num_heads
    shares = scores(attention.q_proj(queries), placed_cells, attention.k_proj, heads).softmax(-1)
    found: Tensor = attention.out_proj(gathered(shares, cells, attention.v_proj, heads))
    return found


def _cells_to_tokens(
    attention: Attention, cells: Tensor, placed_cells: Tensor, keys: Tensor, tokens: Tensor
) -> Tensor:
    """Returns ``cells + attention(q=placed_cells, k=keys, v=tokens)``: [n, K, C]."""
    heads = attention.num_heads
    found: Tensor = scores(attention.k_proj(keys), placed_cells, attention.q_proj, heads)
    shares = found.unflatten(1, (heads, -1)).softmax(2).flatten(1, 2)
    added = contributions(attention.v_proj(tokens), attention.out_proj, heads)
    return torch.baddbmm(cells, shares.transpose(1, 2), added)


def _upscale(decoder: MaskDecoder, cells: Tensor, weights: Tensor) -> Tensor:
    """Returns logits [n, 4h, 4w] of cells [n, h, w, C], with each mask's weights [n, C / 8].

    The stride of the package's transposed convolutions is the size of their kernel. So each is one
    matrix product per cell.
    """
    first, norm, act, second, last_act = decoder.output_upscaling
    small = F.layer_norm(_apart(first, cells), norm.weight.shape, norm.weight, norm.bias, norm.eps)
    fine = last_act(_apart(second, act(small)))
    masks: Tensor = (fine.flatten(1, -2) @ weights[:, :, None]).view(fine.shape[:-1])
    return masks.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


def _apart(convolution: nn.ConvTranspose2d, cells: Tensor) -> Tensor:
    """Applies a transposed convolution without overlap: [..., C] to [..., 2, 2, C']."""
    kernel = convolution.weight.permute(2, 3, 1, 0)
    size = kernel.shape[:3]
    bias = None if convolution.bias is None else convolution.bias.expand(size).flatten()
    apart: Tensor = F.linear(cells, kernel.flatten(0, 2), bias).unflatten(-1, size)
    return apart
