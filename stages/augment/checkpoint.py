"""Loads a captioner and checks that it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as transformers_logging

from pipeline.config import AugmentConfig
from pipeline.errors import CheckpointError
from stages.augment.prompt import Prompt, load_prompt
from stages.common.tokenizers import knows_plain_words


def load_model(
    folder: Path, config: AugmentConfig, device: torch.device
) -> tuple[Any, Any, Prompt]:
    """Loads the model, processor and prompt of a checkpoint folder.

    Raises:
        CheckpointError: the folder is missing or incomplete, its weights lack parameters or hold
            others, or its tokenizer reads plain words as unknown.
    """
    expected = "a folder that transformers' AutoModelForImageTextToText loads"
    remedy = "check augment.checkpoint; `pseudolabels doctor` says which weights are in place"
    if folder.is_file():
        raise CheckpointError(folder, "a file", expected, f"give its folder, {folder.parent}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(folder, "no config.json in it", expected, remedy)
    try:
        processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        loader: Any = AutoModelForImageTextToText
        with _no_progress_bar():
            model, report = loader.from_pretrained(
                folder,
                dtype=getattr(torch, config.dtype),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(folder, f"it does not load ({error})", expected, remedy) from error
    odd = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    odd += [str(item) for item in report["mismatched_keys"]]
    if odd:
        found = f"{len(odd)} parameters do not fit, such as {odd[0]}"
        raise CheckpointError(folder, found, "weights of the model in its config.json", remedy)
    if getattr(processor, "tokenizer", None) is None:
        raise CheckpointError(folder, "its processor has no tokenizer", expected, remedy)
    if not (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template):
        raise CheckpointError(folder, "no chat template in it", expected, remedy)
    if not knows_plain_words(processor.tokenizer):
        found = "its tokenizer reads plain words as unknown"
        remedy = "save the tokenizer again as tokenizer.json"
        raise CheckpointError(folder, found, "a tokenizer that knows its vocabulary", remedy)
    return model.to(device).eval(), processor, load_prompt(folder)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hides the progress bar of transformers, since ours is shown."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
