"""The demo captioner: a small Qwen2-VL with a vocabulary of its own, for videos of ``shapes``.

It sees a few frames and an expression and writes the same JSON that a published model is asked
for. ``stages.demo.captioner_training`` trains it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from pipeline.shapes.language import vocabulary

WIDTH, LAYERS = 128, 5
PROMPT = {"template": "{expression}", "version": "shapes-1"}
_PATCH, _MERGE = 8, 2
_PIECES = (
    '{"positives": [',
    '{"text": "',
    '", "confidence": ',
    "}, ",
    "}], ",
    '"negatives": [',
    '", "kind": "',
    '"}, ',
    '"}]}',
    "]}",
    "category",
    "attribute",
    "action",
    "relation",
)
_CONFIDENCES = ("0.95", "0.9", "0.85", "0.8", "0.75", "0.7")
_SPECIAL = ("<|pad|>", "<|unknown|>", "<|end|>", "<|user|>", "<|assistant|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_processor() -> Qwen2VLProcessor:
    """Image processor, tokenizer and chat template; frames of 256 x 144 become 10 x 6 cells."""
    words = [form for word in vocabulary() for form in (word, f" {word}")]
    pieces = [*_SPECIAL, *_VISION, *_PIECES, *_CONFIDENCES, *words]
    vocab = {piece: row for row, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<|unknown|>"))
    fixed = sorted((*_PIECES, *_CONFIDENCES), key=len, reverse=True)
    pattern = "|".join([*(_escaped(piece) for piece in fixed), " ?[a-z]+", "[\\s\\S]"])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", *_VISION],
    )
    sizes: dict[str, Any] = {
        "patch_size": _PATCH,
        "merge_size": _MERGE,
        "temporal_patch_size": 1,
        "size": {"shortest_edge": 1024, "longest_edge": 16384},
    }
    return Qwen2VLProcessor(
        Qwen2VLImageProcessor(**sizes),
        tokenizer,
        Qwen2VLVideoProcessor(**sizes),
        chat_template=_TEMPLATE,
    )


def build_captioner(processor: Qwen2VLProcessor) -> Qwen2VLForConditionalGeneration:
    """The demo model: the published classes, about 1.6 million parameters."""
    ids = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            "max_window_layers": LAYERS,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 6, 6],
            },
            "bos_token_id": None,
            "eos_token_id": ids("<|end|>"),
            "pad_token_id": ids("<|pad|>"),
        },
        vision_config={
            "depth": 4,
            "embed_dim": 96,
            "num_heads": 4,
            "mlp_ratio": 3,
            "hidden_size": WIDTH,
            "patch_size": _PATCH,
            "spatial_merge_size": _MERGE,
            "temporal_patch_size": 1,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    return Qwen2VLForConditionalGeneration(config)


def save_captioner(
    model: Qwen2VLForConditionalGeneration, processor: Qwen2VLProcessor, folder: Path
) -> None:
    """Writes weights in half precision, processor and prompt as ``from_pretrained`` reads them."""
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "prompt.json").write_text(json.dumps(PROMPT) + "\n", encoding="utf-8")


def _escaped(piece: str) -> str:
    return "".join(f"\\{char}" if char in '{}[]."|?*+()^$\\' else char for char in piece)
