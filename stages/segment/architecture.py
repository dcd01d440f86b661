"""Builds segment-anything's ``Sam`` and runs it in parts, on many frames' boxes at once.

Letters: B frames, n boxes of all of them, C channels, S the side of the square input, s the side
of the embedding (S / 16), h w low-resolution cells (S / 4 along the frame's long side).
"""

from __future__ import annotations

from functools import partial

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from stages.frames import resize
from stages.masks import input_size

_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build_demo() -> Sam:
    """The demo model: the published classes, put together small (about 0.7 million parameters)."""
    side, channels = 512, 64
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=side,
            patch_size=16,
            embed_dim=96,
            depth=4,
            num_heads=4,
            out_chans=channels,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=8,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(side // 16, side // 16),
            input_image_size=(side, side),
            mask_in_chans=8,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=channels, num_heads=4, mlp_dim=128
            ),
            transformer_dim=channels,
            iou_head_depth=3,
            iou_head_hidden_dim=64,
        ),
        pixel_mean=_MEAN,
        pixel_std=_STD,
    )


def build_published(model: str) -> Sam:
    """The model that published weights fit: ``vit_b``, ``vit_l`` or ``vit_h``."""
    return sam_model_registry[model]()


def encode_frames(sam: Sam, images: Tensor) -> Tensor:
    """uint8 frames of one size [B, H, W, 3] to embeddings [B, C, s, s]."""
    size = input_size(images.shape[1], images.shape[2], sam.image_encoder.img_size)
    scaled = resize(images, size)
    weight = sam.image_encoder.patch_embed.proj.weight
    prepared = sam.preprocess(scaled.to(sam.pixel_mean.dtype)).to(weight.dtype)
    embeddings: Tensor = sam.image_encoder(prepared)
    return embeddings


def decode_boxes(sam: Sam, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """One mask a box, each box with the embedding of its own frame.

    The package's ``MaskDecoder.predict_masks`` takes the boxes of one frame only; this is the same
    arithmetic with the frames' embeddings gathered a box at a time.

    Args:
        embeddings: [n, C, s, s], row i the frame of box i.
        boxes: float [n, 4], xyxy in pixels of the square input.

    Returns:
        Mask logits [n, S/4, S/4] and predicted IoU [n], of the single-mask output.
    """
    decoder = sam.mask_decoder
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    sparse, dense = sparse.to(embeddings.dtype), dense.to(embeddings.dtype)
    queries = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([queries.expand(len(boxes), -1, -1), sparse], dim=1)
    places = sam.prompt_encoder.get_dense_pe().to(embeddings.dtype).expand(len(boxes), -1, -1, -1)
    found, source = decoder.transformer(embeddings + dense, places, tokens)
    upscaled = decoder.output_upscaling(source.transpose(1, 2).reshape(embeddings.shape))
    weights = decoder.output_hypernetworks_mlps[0](found[:, 1])
    masks = torch.einsum("nc,nchw->nhw", weights, upscaled)
    return masks, decoder.iou_prediction_head(found[:, 0])[:, 0]
