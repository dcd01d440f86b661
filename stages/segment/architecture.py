"""Builds segment-anything's ``Sam`` and runs its image encoder on frames of any size.

Letters: B frames, C channels, s the side of the embedding.
"""

from __future__ import annotations

from functools import partial

from segment_anything import sam_model_registry
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from stages.common.mask_resolution import input_size
from stages.common.preprocessing import resize

_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def build_demo() -> Sam:
    """Returns the demo model: the published classes, with about 0.7 million parameters."""
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
    """Returns a model for published weights: ``vit_b``, ``vit_l`` or ``vit_h``."""
    return sam_model_registry[model]()


def encode_frames(sam: Sam, images: Tensor) -> Tensor:
    """Returns embeddings [B, C, s, s] of uint8 frames of one size, [B, H, W, 3]."""
    size = input_size(images.shape[1], images.shape[2], sam.image_encoder.img_size)
    scaled = resize(images, size)
    weight = sam.image_encoder.patch_embed.proj.weight
    prepared = sam.preprocess(scaled.to(sam.pixel_mean.dtype)).to(weight.dtype)
    embeddings: Tensor = sam.image_encoder(prepared)
    return embeddings
