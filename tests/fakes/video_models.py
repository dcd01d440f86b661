"""Tiny video models of transformers with random weights, in the layout of the published folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Sam3Config,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
    Sam3VideoProcessor,
    Sam3VisionConfig,
    Sam3ViTConfig,
)
from transformers.models.sam2_video import Sam2VideoVideoProcessor
from transformers.models.sam3 import Sam3ImageProcessor

from benchmarks.data.video_models import write_sam2
from tests.fakes.captioner_models import tokenizer

__all__ = ["sam3_config", "write_sam2", "write_sam3"]


def sam3_config() -> Sam3VideoConfig:
    """SAM 3 for inputs of 56 x 56 pixels."""
    side, width, grid = 56, 128, 4
    backbone = Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=side // grid,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=side,
    )
    vision = Sam3VisionConfig(
        backbone_config=backbone,
        fpn_hidden_size=width,
        backbone_feature_sizes=[[4 * grid] * 2, [2 * grid] * 2, [grid] * 2],
    )
    small = {"hidden_size": width, "intermediate_size": 64, "num_attention_heads": 2}
    detector = Sam3Config(
        vision_config=vision,
        text_config={
            "vocab_size": len(tokenizer()),
            "hidden_size": width,
            "intermediate_size": 64,
            "projection_dim": width,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "bos_token_id": None,
            "eos_token_id": tokenizer().eos_token_id,
        },
        geometry_encoder_config=small | {"num_layers": 1},
        detr_encoder_config=small | {"num_layers": 1},
        detr_decoder_config=small | {"num_layers": 1, "num_queries": 6},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 2},
    )
    tracker = Sam3TrackerVideoConfig(
        vision_config=vision,
        prompt_encoder_config={
            "hidden_size": width,
            "image_size": side,
            "patch_size": side // grid,
            "mask_input_channels": 8,
        },
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[grid, grid],
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=32,
    )
    made = Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=4 * grid,
        # Random weights are sure of nothing.
        score_threshold_detection=0.05,
        new_det_thresh=0.05,
        high_conf_thresh=0.05,
        det_nms_thresh=0.9,
        max_num_objects=3,
        # Their masks hardly agree, and objects that are not confirmed are removed.
        assoc_iou_thresh=0.0,
        trk_assoc_iou_thresh=0.0,
        hotstart_delay=4,
        hotstart_unmatch_thresh=4,
        hotstart_dup_thresh=4,
    )
    made.image_size = side
    return made


def write_sam3(folder: Path, seed: int = 0) -> Path:
    """Writes a folder in the layout of ``facebook/sam3``."""
    torch.manual_seed(seed)
    model: Any = Sam3VideoModel(sam3_config())
    with torch.no_grad():
        for values in model.tracker_model.parameters():
            values.add_(torch.randn_like(values) * 0.1)
        model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(5)
    model.save_pretrained(folder)
    size = {"height": 56, "width": 56}
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Sam3VideoProcessor(
        Sam3ImageProcessor(size=size, **half),
        Sam2VideoVideoProcessor(size=size, **half),
        tokenizer(),
    ).save_pretrained(folder)
    return folder
