"""Loads a model and its processor from a folder of transformers, and checks that it is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoProcessor
from transformers.utils import logging as transformers_logging

from pipeline.errors import CheckpointError


def model_type(folder: Path) -> str | None:
    """Returns the type of a folder's model; None if it has no readable configuration."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def load_folder(
    loader: Any, folder: Path, dtype: torch.dtype, expected: str, setting: str, **settings: Any
) -> tuple[Any, Any]:
    """Loads a folder from disk alone.

    Args:
        loader: a class of transformers with ``from_pretrained``.
        expected: what the folder should be, for messages.
        setting: that names the folder.
        settings: further ones for the loader.

    Returns:
        The model, on the CPU, and its processor.

    Raises:
        CheckpointError: the folder is missing or incomplete, or its weights lack parameters or
            hold others.
    """
    remedy = f"check {setting}; `pseudolabels doctor` says which weights are in place"
    if folder.is_file():
        raise CheckpointError(folder, "a file", expected, f"give its folder, {folder.parent}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(folder, "no config.json in it", expected, remedy)
    try:
        processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
        with _no_progress_bar():
            model, report = loader.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **settings,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(folder, f"it does not load ({error})", expected, remedy) from error
    odd = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    odd += [str(item) for item in report["mismatched_keys"]]
    if odd:
        found = f"{len(odd)} parameters do not fit, such as {odd[0]}"
        raise CheckpointError(folder, found, "weights of the model in its config.json", remedy)
    return model, processor


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
