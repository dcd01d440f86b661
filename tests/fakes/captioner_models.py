"""Tiny image-text-to-text models with random weights, saved as their published folders are.

The tokenizers know bytes alone, and the chat templates are written here: no published file is used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from benchmarks.data.tokenizers import byte_tokenizer

WIDTH = 32
TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
CELLS: dict[str, Any] = {
    "patch_size": 8,
    "merge_size": 2,
    "size": {"shortest_edge": 256, "longest_edge": 4096},
}


def write_captioner(kind: str, folder: Path) -> Path:
    """Writes a model of a kind, with a ``generation_config.json`` that would change its answers."""
    torch.manual_seed(0)
    model, processor = MADE[kind]()
    with torch.no_grad():
        for weight in model.parameters():
            # As they come, random weights give every token the same probability.
            if weight.ndim > 1:
                weight.mul_(4)
    inherited = model.generation_config
    inherited.repetition_penalty, inherited.do_sample = 5.0, True
    inherited.temperature, inherited.top_k, inherited.top_p = 0.1, 3, 0.2
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def template(image: str, video: str = "") -> str:
    """A chat template that puts a text in the place of each image and of each video."""
    return (
        "{% for message in messages %}<|user|>{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}"
        + image
        + "{% elif part['type'] == 'video' %}"
        + video
        + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def _ids(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(words),
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def _qwen_tokens() -> PreTrainedTokenizerFast:
    return byte_tokenizer(
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )


def _qwen_of(words: PreTrainedTokenizerFast) -> dict[str, int]:
    of = words.convert_tokens_to_ids
    return {
        "image_token_id": of("<|image_pad|>"),
        "video_token_id": of("<|video_pad|>"),
        "vision_start_token_id": of("<|vision_start|>"),
        "vision_end_token_id": of("<|vision_end|>"),
    }


QWEN_TEMPLATE = template(
    "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
)


def _qwen2_vl() -> tuple[Any, Any]:
    words = _qwen_tokens()
    config = Qwen2VLConfig(
        text_config=TEXT | _ids(words) | {"rope_parameters": MROPE},
        vision_config={
            "depth": 2, "embed_dim": WIDTH, "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 8, "hidden_size": WIDTH,
        },
        **_qwen_of(words),
    )  # fmt: skip
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**CELLS),
        words,
        Qwen2VLVideoProcessor(**CELLS),
        chat_template=QWEN_TEMPLATE,
    )
    return Qwen2VLForConditionalGeneration(config), processor


def _qwen2_5_vl() -> tuple[Any, Any]:
    words = _qwen_tokens()
    config = Qwen2_5_VLConfig(
        text_config=TEXT | _ids(words) | {"rope_parameters": MROPE},
        vision_config={
            "depth": 2, "hidden_size": WIDTH, "intermediate_size": 64, "num_heads": 2,
            "patch_size": 8, "out_hidden_size": WIDTH, "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        **_qwen_of(words),
    )  # fmt: skip
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**CELLS),
        words,
        Qwen2VLVideoProcessor(**CELLS),
        chat_template=QWEN_TEMPLATE,
    )
    return Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vl() -> tuple[Any, Any]:
    words = _qwen_tokens()
    config = Qwen3VLConfig(
        text_config=TEXT | _ids(words) | {"rope_parameters": MROPE | {"mrope_interleaved": True}},
        vision_config={
            "depth": 2, "hidden_size": WIDTH, "intermediate_size": 64, "num_heads": 2,
            "patch_size": 8, "out_hidden_size": WIDTH, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        **_qwen_of(words),
    )  # fmt: skip
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**CELLS),
        words,
        Qwen3VLVideoProcessor(**CELLS),
        chat_template=QWEN_TEMPLATE,
    )
    return Qwen3VLForConditionalGeneration(config), processor


def _internvl() -> tuple[Any, Any]:
    words = byte_tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    config = InternVLConfig(
        text_config=TEXT | _ids(words) | {"model_type": "qwen2"},
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": [32, 32], "patch_size": [8, 8],
        },
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )  # fmt: skip
    size = {"height": 32, "width": 32}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=False),
        words,
        InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>", "<video>"),
    )
    return InternVLForConditionalGeneration(config), processor


def _gemma3() -> tuple[Any, Any]:
    words = byte_tokenizer(
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>"
    )
    of = words.convert_tokens_to_ids
    config = Gemma3Config(
        text_config=TEXT | _ids(words) | {"sliding_window": 512, "query_pre_attn_scalar": 16},
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
        },
        mm_tokens_per_image=4,
        image_token_index=of("<image_soft_token>"),
        boi_token_index=of("<start_of_image>"),
        eoi_token_index=of("<end_of_image>"),
    )  # fmt: skip
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        words,
        chat_template=template("<start_of_image>"),
        image_seq_length=4,
    )
    return Gemma3ForConditionalGeneration(config), processor


def _smolvlm() -> tuple[Any, Any]:
    words = byte_tokenizer(
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
        video_token="<video>",
    )
    config = SmolVLMConfig(
        text_config=TEXT | _ids(words) | {"model_type": "llama"},
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        scale_factor=2,
    )  # fmt: skip
    size = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**size, do_image_splitting=False),
        words,
        SmolVLMVideoProcessor(**size),
        image_seq_len=4,
        chat_template=template("<image>", "<video>"),
    )
    return SmolVLMForConditionalGeneration(config), processor


MADE: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "internvl": _internvl,
    "gemma3": _gemma3,
    "smolvlm": _smolvlm,
}
