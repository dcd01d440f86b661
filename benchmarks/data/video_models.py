"""Tiny video models of transformers with random weights, in the layout of the published folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam3Config,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
    Sam3VideoProcessor,
    Sam3VisionConfig,
    Sam3ViTConfig,
)
from transformers.models.sam2 import Sam2ImageProcessor
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
from transformers.models.sam2_video import Sam2VideoVideoProcessor
from transformers.models.sam2_video.configuration_sam2_video import (
    Sam2VideoMaskDecoderConfig,
    Sam2VideoPromptEncoderConfig,
)
from transformers.models.sam3 import Sam3ImageProcessor

from benchmarks.data.tokenizers import byte_tokenizer

SIDE = 64


def sam2_config() -> Sam2VideoConfig:
    """SAM 2.1 for inputs of 64 x 64 pixels, with a million parameters."""
    width, channels = 128, [32, 24, 16, 8]
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=channels[::-1],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[8, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=channels,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        fpn_hidden_size=width,
    )
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(
            hidden_size=width, image_size=SIDE, mask_input_channels=8
        ),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=width, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32
        ),
        image_size=SIDE,
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
        memory_encoder_hidden_size=width,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=32,
    )


def processor() -> Any:
    """Of inputs of 64 x 64 pixels."""
    size = {"height": SIDE, "width": SIDE}
    return Sam2VideoProcessor(
        Sam2ImageProcessor(size=size), Sam2VideoVideoProcessor(size=size), target_size=SIDE
    )


def write_sam2(folder: Path, seed: int = 0) -> Path:
    """Writes a folder that ``AutoModel`` and ``AutoProcessor`` load."""
    torch.manual_seed(seed)
    model: Any = Sam2VideoModel(sam2_config())
    with torch.no_grad():
        for values in model.parameters():
            # The usual small weights give masks that hardly depend on the frame.
            values.add_(torch.randn_like(values) * 0.1)
        # All objects are in all frames.
        model.mask_decoder.pred_obj_score_head.proj_out.bias.add_(5)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


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
    small: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 64,
        "num_attention_heads": 2,
    }
    detector = Sam3Config(
        vision_config=vision,
        text_config={
            "vocab_size": len(byte_tokenizer()),
            "hidden_size": width,
            "intermediate_size": 64,
            "projection_dim": width,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "bos_token_id": None,
            "eos_token_id": byte_tokenizer().eos_token_id,
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
    half: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Sam3VideoProcessor(
        Sam3ImageProcessor(size=size, **half),
        Sam2VideoVideoProcessor(size=size, **half),
        byte_tokenizer(),
    ).save_pretrained(folder)
    return folder
