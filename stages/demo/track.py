"""The demo tracker: a small SAM 2.1 of transformers, for videos of ``shapes``.

It gives one mask for each object and frame. ``stages.demo.track_training`` trains it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor
from transformers.models.sam2 import Sam2ImageProcessor
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2_video import Sam2VideoVideoProcessor
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)

SIDE = 192
"""Frames are stretched to a square of so many pixels; masks have a quarter of its side."""

_WIDTH = 128
_FEATURES_IN_MEMORY = 0.125
"""After training on single frames, the standard deviation of the features is about eight."""

_CHANNELS = (24, 48, 96, 192)


def build_processor() -> Sam2VideoProcessor:
    """Stretches frames to the model's input, and normalises them by ImageNet statistics."""
    size = {"height": SIDE, "width": SIDE}
    return Sam2VideoProcessor(
        Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), target_size=SIDE
    )


def build_tracker() -> Any:
    """The demo model: the published classes, with about two million parameters."""
    grid = SIDE // 16
    backbone = Sam2HieraDetConfig(
        hidden_size=_CHANNELS[0],
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 3, 1],
        embed_dim_per_stage=list(_CHANNELS),
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 12, 6],
        window_positional_embedding_background_size=[6, 6],
        global_attention_blocks=[3, 4],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=list(reversed(_CHANNELS)),
        backbone_feature_sizes=[[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
        fpn_hidden_size=_WIDTH,
    )
    model: Any = Sam2VideoModel(
        Sam2VideoConfig(
            vision_config=vision,
            prompt_encoder_config=Sam2VideoPromptEncoderConfig(
                hidden_size=_WIDTH, image_size=SIDE, mask_input_channels=8
            ),
            mask_decoder_config=Sam2VideoMaskDecoderConfig(
                hidden_size=_WIDTH,
                mlp_dim=2 * _WIDTH,
                num_attention_heads=4,
                iou_head_hidden_dim=_WIDTH,
                dynamic_multimask_via_stability=False,
            ),
            image_size=SIDE,
            num_maskmem=3,
            multimask_output_in_sam=False,
            multimask_output_for_tracking=False,
            max_object_pointers_in_encoder=8,
            enable_temporal_pos_encoding_for_object_pointers=False,
            memory_attention_hidden_size=_WIDTH,
            memory_attention_num_layers=1,
            memory_attention_feed_forward_hidden_size=2 * _WIDTH,
            memory_attention_dropout=0.0,
            memory_attention_rope_dropout=0.0,
            memory_attention_rope_feat_sizes=[grid, grid],
            memory_encoder_hidden_size=_WIDTH,
            mask_downsampler_embed_dim=_WIDTH,
            memory_fuser_embed_dim=_WIDTH,
            memory_fuser_intermediate_dim=2 * _WIDTH,
            memory_fuser_layer_scale_init_value=0.1,
        )
    )
    # transformers starts from weights that are small for layers as narrow as these.
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            module.reset_parameters()
    # Boxes and cells of the image are encoded alike.
    places = model.prompt_encoder.shared_embedding.positional_embedding
    places.copy_(model.shared_image_embedding.positional_embedding)
    _attend_to_what_looks_alike(model)
    return model


def _attend_to_what_looks_alike(model: Any) -> None:
    """Lets the memory attention start with a cell looking at cells of the memory with its features.

    From random weights, short training does not find this. Keys are then a projection of a frame's
    features to the memory's fewer channels, and queries the same projection of the frame at hand.
    The features are scaled down, so that they do not drown what the memory says of the mask.
    """
    encoder, layer = model.memory_encoder, model.memory_attention.layers[0].cross_attn_image
    with torch.no_grad():
        nn.init.dirac_(encoder.feature_projection.weight).mul_(_FEATURES_IN_MEMORY)
        nn.init.orthogonal_(encoder.projection.weight.flatten(1))
        nn.init.orthogonal_(layer.k_proj.weight)
        layer.q_proj.weight.copy_(layer.k_proj.weight @ encoder.projection.weight.flatten(1))
        for part in (encoder.feature_projection, encoder.projection, layer.k_proj, layer.q_proj):
            part.bias.zero_()


def save_tracker(model: Any, processor: Sam2VideoProcessor, folder: Path) -> None:
    """Writes weights in half precision, and the processor, as ``from_pretrained`` reads them."""
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
