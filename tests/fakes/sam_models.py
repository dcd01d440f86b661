"""Tiny SAM and HQ-SAM of transformers with random weights, in the layout of published folders."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import SamConfig, SamHQConfig, SamHQModel, SamModel
from transformers.models.sam import SamImageProcessor, SamProcessor
from transformers.models.sam.configuration_sam import (
    SamMaskDecoderConfig,
    SamPromptEncoderConfig,
    SamVisionConfig,
)
from transformers.models.sam_hq import SamHQProcessor
from transformers.models.sam_hq.configuration_sam_hq import (
    SamHQMaskDecoderConfig,
    SamHQPromptEncoderConfig,
    SamHQVisionConfig,
)

VISION = {
    "hidden_size": 96,
    "output_channels": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 512,
    "window_size": 8,
    "mlp_dim": 384,
    "num_pos_feats": 32,
}
PROMPTS = {"hidden_size": 64, "image_size": 512, "mask_input_channels": 8}
DECODER = {
    "hidden_size": 64,
    "mlp_dim": 128,
    "num_attention_heads": 4,
    "iou_head_hidden_dim": 64,
}
"""Sizes of the demo model of segment-anything."""

_RENAMED = (
    (r"image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\b", "patch_embed.projection"),
    (r"vision_encoder\.blocks", "vision_encoder.layers"),
    (r"\.norm(\d)\b", r".layer_norm\1"),
    (r"neck\.0", "neck.conv1"),
    (r"neck\.1", "neck.layer_norm1"),
    (r"neck\.2", "neck.conv2"),
    (r"neck\.3", "neck.layer_norm2"),
    (r"point_embeddings", "point_embed"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"((?:mlps\.\d|head))\.layers\.0\.", r"\1.proj_in."),
    (r"((?:mlps\.\d|head))\.layers\.2\.", r"\1.proj_out."),
    (r"((?:mlps\.\d|head))\.layers\.1\.", r"\1.layers.0."),
)
"""Names of segment-anything, and of transformers."""


def of_package(sam: Any) -> SamModel:
    """Returns the demo model of segment-anything as one of transformers, with its weights."""
    config = SamConfig(
        vision_config=SamVisionConfig(**VISION, global_attn_indexes=[]),
        prompt_encoder_config=SamPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=SamMaskDecoderConfig(**DECODER, iou_head_depth=3),
    )
    model = SamModel(config)
    weights = {}
    for name, value in sam.state_dict().items():
        if name.startswith("pixel_"):
            continue
        if "gaussian_matrix" in name:
            weights["shared_image_embedding.positional_embedding"] = value
            weights["prompt_encoder.shared_embedding.positional_embedding"] = value
            continue
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        weights[name] = value
    model.load_state_dict(weights)
    return model.eval()


def write_sam(model: SamModel, folder: Path) -> Path:
    """Writes a SAM and its processor."""
    model.save_pretrained(folder)
    SamProcessor(_images(SamImageProcessor)).save_pretrained(folder)
    return folder


def write_hq_sam(folder: Path) -> Path:
    """Writes an HQ-SAM with random weights and its processor."""
    torch.manual_seed(3)
    config = SamHQConfig(
        vision_config=SamHQVisionConfig(**VISION, global_attn_indexes=[1, 3]),
        prompt_encoder_config=SamHQPromptEncoderConfig(**PROMPTS),
        mask_decoder_config=SamHQMaskDecoderConfig(**DECODER, vit_dim=96),
    )
    SamHQModel(config).save_pretrained(folder)
    SamHQProcessor(_images(SamImageProcessor)).save_pretrained(folder)
    return folder


def _images(kind: Any) -> Any:
    return kind(
        size={"longest_edge": 512},
        mask_size={"longest_edge": 128},
        pad_size={"height": 512, "width": 512},
        mask_pad_size={"height": 128, "width": 128},
    )
