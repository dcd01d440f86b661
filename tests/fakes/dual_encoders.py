"""Tiny CLIP, SigLIP, SigLIP 2 and X-CLIP with random weights, as published folders have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
)
from transformers.models.clip import CLIPImageProcessor
from transformers.models.siglip import SiglipImageProcessor
from transformers.models.siglip2 import Siglip2ImageProcessor

WORDS = [
    "<pad>",
    "<end>",
    "<unk>",
    "the",
    "a",
    "red",
    "blue",
    "square",
    "circle",
    "on",
    "left",
    "of",
]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
TEXT = SIZES | {
    "num_attention_heads": 2,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 12,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "projection_dim": 16,
    "projection_size": 16,
}
VISION = SIZES | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, which ends a sentence with its end token."""
    made = Tokenizer(models.WordLevel({word: row for row, word in enumerate(WORDS)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("$A <end>", None, [("<end>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )


def write_encoder(kind: str, folder: Path) -> Path:
    """Writes a dual encoder of a kind: clip, siglip, siglip2 or xclip."""
    torch.manual_seed(0)
    model, processor = _MADE[kind]()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Random weights as they come give every frame and every sentence the same features.
            if weight.ndim > 1 and "position" not in name:
                weight.normal_(0, 0.4)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _clip() -> tuple[Any, Any]:
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return CLIPModel(config), CLIPProcessor(images, tokenizer())


def _siglip() -> tuple[Any, Any]:
    config = SiglipConfig(text_config=TEXT, vision_config=VISION)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    return SiglipModel(config), SiglipProcessor(images, tokenizer())


def _siglip2() -> tuple[Any, Any]:
    vision = {key: value for key, value in VISION.items() if key != "image_size"}
    config = Siglip2Config(text_config=TEXT, vision_config=vision | {"num_patches": 16})
    images = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    return Siglip2Model(config), Siglip2Processor(images, tokenizer())


def _xclip() -> tuple[Any, Any]:
    vision = VISION | {
        "num_frames": 4,
        "mit_hidden_size": 16,
        "mit_intermediate_size": 32,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
    }
    config = XCLIPConfig(
        text_config=TEXT, vision_config=vision, projection_dim=16, prompt_num_attention_heads=2
    )
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return XCLIPModel(config), XCLIPProcessor(images, tokenizer())


_MADE = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip2, "xclip": _xclip}
KINDS = tuple(_MADE)
