"""A multimodal language model of transformers, which is asked about images.

Letters: B questions of a batch, L tokens of an answer, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError, ConfigError
from pipeline.ports import Image
from stages.common.chat_models import end_tokens, without_thoughts
from stages.common.checkpoints import check_digest, resolve_checkpoint
from stages.common.completion import likelihood
from stages.common.fitting_batches import FittingBatches
from stages.common.model_folders import load_folder, model_type
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
        self._model, self._processor = model.eval(), processor
        self._longest = config.mllm.max_new_tokens
        remedy = "lower ground.mllm.max_pixels, or take a smaller model"
        self._fitting = FittingBatches(
            config.batch_pairs, "question about a frame", "ground.batch_pairs", remedy
        )
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._ends = end_tokens(model, tokenizer)
        # What is not set in a call is inherited from generation_config.json.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self._ends))

    def ask(self, questions: Sequence[tuple[Image, str]]) -> list[Reply]:
        """Returns one reply per pair of an image and a question, in their order."""
        return list(self._fitting.over(questions, self._answers))

    @torch.inference_mode()
    def _answers(self, part: Sequence[tuple[Image, str]]) -> list[Reply]:
        inputs = self._processor(
            text=[self._prompt(text) for _, text in part],
            images=[[Pillow.fromarray(image)] for image, _ in part],
            padding=True,
            return_tensors="pt",
        ).to(self._model.device, dtype=self._model.dtype)
        out = self._model.generate(
            **inputs,
            generation_config=GenerationConfig(
                max_new_tokens=self._longest,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                eos_token_id=sorted(self._ends),
                pad_token_id=self._processor.tokenizer.pad_token_id,
                return_dict_in_generate=True,
                output_logits=True,
            ),
        )
        written = out.sequences[:, inputs["input_ids"].shape[1] :]
        logits = torch.stack(out.logits, 1).float().log_softmax(-1)
        chances = logits.gather(-1, written[..., None])[..., 0].double().cpu()
        seen = _sizes_seen(inputs, self._processor, part)
        return [
            self._reply(tokens, chance, size)
            for tokens, chance, size in zip(written.tolist(), chances, seen, strict=True)
        ]

    def _prompt(self, text: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        prompt: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            **without_thoughts(self._processor),
        )
        return prompt

    def _reply(self, tokens: list[int], chances: Tensor, seen: tuple[int, int]) -> Reply:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), len(tokens))
        ends = [len(self._decode(tokens[: at + 1])) for at in range(end)]
        probability = partial(likelihood, ends=ends, log_probability=chances[:end].numpy())
        return Reply(self._decode(tokens[:end]), seen, probability)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._processor.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _sizes_seen(
    inputs: Any, processor: Any, part: Sequence[tuple[Image, str]]
) -> list[tuple[int, int]]:
    """Returns height and width of each image as the model saw it."""
    if "image_grid_thw" not in inputs:
        return [(image.shape[0], image.shape[1]) for image, _ in part]
    side = int(processor.image_processor.patch_size)
    return [(rows * side, columns * side) for _, rows, columns in inputs["image_grid_thw"].tolist()]


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
    expected = "a folder that transformers' AutoModelForImageTextToText loads"
    model, processor = load_folder(
        AutoModelForImageTextToText,
        folder,
        getattr(torch, config.dtype),
        expected,
        "ground.checkpoint",
    )
    if not (getattr(processor, "chat_template", None) or processor.tokenizer.chat_template):
        remedy = "check ground.checkpoint"
        raise CheckpointError(folder, "no chat template in it", expected, remedy)
    return FolderModel(model.to(device), processor, config), coordinates
