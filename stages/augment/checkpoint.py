"""Loads a captioner and checks that it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText

from pipeline.config import AugmentConfig
from pipeline.errors import CheckpointError
from stages.augment.prompt import Prompt, load_prompt
from stages.augment.vision import takes_videos
from stages.common.model_folders import load_folder
from stages.common.tokenizers import knows_plain_words


def load_model(
    folder: Path, config: AugmentConfig, device: torch.device
) -> tuple[Any, Any, Prompt]:
    """Loads the model, processor and prompt of a checkpoint folder.

    Raises:
        CheckpointError: the folder is missing or incomplete, its weights lack parameters or hold
            others, or its tokenizer reads plain words as unknown; or it takes no videos, and
            ``input`` asks for them.
    """
    expected = "a folder that transformers' AutoModelForImageTextToText loads"
    remedy = "check augment.checkpoint; `pseudolabels doctor` says which weights are in place"
    dtype = getattr(torch, config.dtype)
    model, processor = load_folder(
        AutoModelForImageTextToText, folder, dtype, expected, "augment.checkpoint"
    )
    if getattr(processor, "tokenizer", None) is None:
        raise CheckpointError(folder, "its processor has no tokenizer", expected, remedy)
    if not (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template):
        raise CheckpointError(folder, "no chat template in it", expected, remedy)
    if not knows_plain_words(processor.tokenizer):
        found = "its tokenizer reads plain words as unknown"
        remedy = "save the tokenizer again as tokenizer.json"
        raise CheckpointError(folder, found, "a tokenizer that knows its vocabulary", remedy)
    if config.input == "video" and not takes_videos(processor):
        found = "its processor takes images alone"
        expected = "one that takes videos, for augment.input='video'"
        raise CheckpointError(folder, found, expected, "set augment.input to 'images'")
    return model.to(device).eval(), processor, load_prompt(folder, config.nouns)
