"""Tiny Grounding DINO, MM Grounding DINO and OWLv2 with random weights, in published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2Processor,
    PreTrainedTokenizerFast,
    SwinConfig,
)
from transformers.models.grounding_dino import GroundingDinoImageProcessor
from transformers.models.owlv2 import Owlv2ImageProcessor

WORDS = ("the", "red", "blue", "circle", "square", "on", "left", "of", "small", "no", "5")
STOP = 1012
"""BERT's id of a full stop, which the models know by its number."""


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of a few words, with BERT's ids for the tokens that the models know by number."""
    numbers = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": STOP, "?": 1029}
    numbers |= {word: 200 + row for row, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(numbers, "[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", None, [("[CLS]", 101), ("[SEP]", 102)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the same words, whose end token has the highest id, as CLIP's has."""
    numbers = {"<pad>": 0, "<unk>": 1, "<start>": 2, "<end>": 30}
    numbers |= {word: 3 + row for row, word in enumerate(WORDS)}
    made = Tokenizer(models.WordLevel(numbers, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        "<start> $A <end>", None, [("<start>", 2), ("<end>", 30)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


def write_grounder(kind: str, folder: Path) -> Path:
    """Writes a model of a kind: grounding-dino, mm-grounding-dino or owlv2."""
    torch.manual_seed(0)
    model, processor = _owlv2() if kind == "owlv2" else _dino(kind)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Random weights as they come give every box and every sentence the same score.
            if weight.ndim == 2 and "embed" not in name.split(".")[-2]:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _dino(kind: str) -> tuple[Any, Any]:
    kinds = {
        "grounding-dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
        "mm-grounding-dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
    }
    settings, model = kinds[kind]
    config = settings(
        backbone_config=SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
            window_size=4, out_features=["stage2", "stage3", "stage4"],
        ),
        text_config={
            "model_type": "bert", "vocab_size": 1030, "hidden_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
        },
        d_model=32, num_queries=10, num_feature_levels=4, max_text_len=24,
        encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=2,
    )  # fmt: skip
    return model(config), GroundingDinoProcessor(GroundingDinoImageProcessor(), bert_tokenizer())


def _owlv2() -> tuple[Any, Any]:
    sizes = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    config = Owlv2Config(
        text_config=sizes | {"vocab_size": 31, "max_position_embeddings": 16},
        vision_config=sizes | {"image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    images = Owlv2ImageProcessor(size={"height": 64, "width": 64})
    return Owlv2ForObjectDetection(config), Owlv2Processor(images, clip_tokenizer())


KINDS = ("grounding-dino", "mm-grounding-dino", "owlv2")
