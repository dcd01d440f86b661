"""A multimodal language model of transformers, which is asked for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pipeline.config import GroundConfig
from pipeline.errors import ConfigError
from pipeline.ports import Image
from stages.common.chat_folder import FolderChat, load_chat_folder
from stages.common.checkpoints import check_digest, resolve_checkpoint
from stages.common.fitting_batches import FittingBatches
from stages.common.model_folders import model_type
from stages.ground.box_answers import Coordinates
from stages.ground.mllm import Reply

COORDINATES: dict[str, Coordinates] = {
    "qwen2_vl": "thousandths",
    "qwen2_5_vl": "pixels",
    "qwen3_vl": "thousandths",
    "qwen3_vl_moe": "thousandths",
}
"""What the answers of a model count, by ``model_type`` in its ``config.json``."""


class FolderModel:
    """A :class:`stages.ground.mllm.Asked` over an image-text-to-text model.

    Args:
        model: on its device.
        processor: of that model, with a chat template.
        config: questions in one pass, and longest answers.
    """

    def __init__(self, model: Any, processor: Any, config: GroundConfig) -> None:
        remedy = "lower ground.mllm.max_pixels, or take a smaller model"
        fitting = FittingBatches(
            config.batch_pairs, "question about a frame", "ground.batch_pairs", remedy
        )
        self._chat = FolderChat(model, processor, config.mllm.max_new_tokens, fitting)

    def ask(self, questions: Sequence[tuple[Image, str]]) -> list[Reply]:
        """Returns one reply per pair of an image and a question, in their order."""
        written = self._chat.ask([([image], text) for image, text in questions])
        return [Reply(item.text, item.seen[0], item.likelihood) for item in written]


def load_folder_model(
    config: GroundConfig, device: torch.device
) -> tuple[FolderModel, Coordinates]:
    """Returns the model in ``ground.checkpoint``, and what its answers count.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: nothing says what the answers count.
    """
    folder = resolve_checkpoint(config.checkpoint)
    check_digest(config.checkpoint, config.sha256)
    kind = model_type(folder)
    coordinates = config.mllm.coordinates or COORDINATES.get(str(kind))
    if coordinates is None:
        raise ConfigError(
            f"{folder}: nothing is known of how a model of type {kind!r} writes boxes; set"
            " ground.mllm.coordinates to 'pixels' or 'thousandths'"
        )
    model, processor = load_chat_folder(folder, config.dtype, "ground.checkpoint")
    return FolderModel(model.to(device), processor, config), coordinates
