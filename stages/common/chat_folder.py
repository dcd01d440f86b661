"""An image-text-to-text model of transformers, which is asked about images.

Letters: B questions of a batch, L tokens of an answer, V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow
from torch import Tensor
from transformers import AutoModelForImageTextToText, GenerationConfig

from pipeline.errors import CheckpointError
from pipeline.ports import Image
from stages.common.chat_models import end_tokens, without_thoughts
from stages.common.completion import likelihood
from stages.common.fitting_batches import FittingBatches
from stages.common.model_folders import load_folder

ALTERNATIVES = 20
"""Tokens that are told of a place of an answer, the likeliest."""


@dataclass(frozen=True)
class Written:
    """What a model wrote to one question.

    Attributes:
        text: decoded, without special tokens.
        seen: height and width of each image as the model saw it.
        read: tokens of the question, images included.
        ends: the character of the text at which each of the L tokens ends.
        log_probability: float64 [L], natural log of the probability of each token.
        alternatives: of each token, the text of the likeliest ones in its place -> the log of their
            probability.
        pieces: the text of each token.
    """

    text: str
    seen: list[tuple[int, int]]
    read: int
    ends: list[int]
    log_probability: Any
    alternatives: list[Mapping[str, float]]
    pieces: list[str]

    def likelihood(self, span: tuple[int, int]) -> float | None:
        """Returns the likelihood of the characters between two; None if nothing was written."""
        return likelihood(span, self.ends, self.log_probability) if self.ends else None

    def at(self, character: int) -> tuple[str, Mapping[str, float]] | None:
        """Returns the token that a character is of, and what could stand in its place."""
        for piece, end, others in zip(self.pieces, self.ends, self.alternatives, strict=True):
            if end > character:
                return piece, others
        return None


class FolderChat:
    """A model that answers questions about images; it takes the likeliest words.

    Args:
        model: on its device.
        processor: of that model, with a chat template.
        longest: largest number of tokens in an answer.
        fitting: questions in one pass.
    """

    def __init__(self, model: Any, processor: Any, longest: int, fitting: FittingBatches) -> None:
        self._model, self._processor = model.eval(), processor
        self._longest, self._fitting = longest, fitting
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._ends = end_tokens(model, tokenizer)
        # What is not set in a call is inherited from generation_config.json.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self._ends))

    def ask(self, questions: Sequence[tuple[Sequence[Image], str]]) -> list[Written]:
        """Returns one answer per pair of images and a question, in their order.

        Questions that follow each other have equally many images.
        """
        return list(self._fitting.over(questions, self._answers))

    @torch.inference_mode()
    def _answers(self, part: Sequence[tuple[Sequence[Image], str]]) -> list[Written]:
        inputs = self._processor(
            text=[self._prompt(len(images), text) for images, text in part],
            images=[[Pillow.fromarray(image) for image in images] for images, _ in part],
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
        asked = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).sum(1).tolist()
        written = out.sequences[:, inputs["input_ids"].shape[1] :]
        seen = _sizes_seen(inputs, self._processor, part)
        return [
            self._written(tokens, [step[row] for step in out.logits], seen[row], asked[row])
            for row, tokens in enumerate(written.tolist())
        ]

    def _prompt(self, images: int, text: str) -> str:
        content = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
        prompt: str = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=False,
            **without_thoughts(self._processor),
        )
        return prompt

    def _written(
        self, tokens: list[int], logits: list[Tensor], seen: list[tuple[int, int]], read: int
    ) -> Written:
        end = next((at for at, token in enumerate(tokens) if token in self._ends), len(tokens))
        tokens = tokens[:end]
        chances, alternatives = [], list[Mapping[str, float]]()
        for token, step in zip(tokens, logits, strict=False):
            logs = step.float().log_softmax(-1)
            chances.append(float(logs[token]))
            best = logs.topk(min(ALTERNATIVES, len(logs)))
            alternatives.append(self._by_text(best.indices.tolist(), best.values.tolist()))
        return Written(
            self._decode(tokens),
            seen,
            read,
            [len(self._decode(tokens[: at + 1])) for at in range(end)],
            torch.tensor(chances, dtype=torch.float64).numpy(),
            alternatives,
            [self._decode([token]) for token in tokens],
        )

    def _by_text(self, tokens: list[int], logs: list[float]) -> Mapping[str, float]:
        """Text of tokens -> the log of its probability; of equal texts, the likeliest token's."""
        found: dict[str, float] = {}
        for token, log in zip(tokens, logs, strict=True):
            found.setdefault(self._decode([token]), log)
        return found

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._processor.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _sizes_seen(
    inputs: Any, processor: Any, part: Sequence[tuple[Sequence[Image], str]]
) -> list[list[tuple[int, int]]]:
    """Returns height and width of the images of each question as the model saw them."""
    if "image_grid_thw" not in inputs:
        return [[(image.shape[0], image.shape[1]) for image in images] for images, _ in part]
    side = int(processor.image_processor.patch_size)
    sizes = [
        (rows * side, columns * side) for _, rows, columns in inputs["image_grid_thw"].tolist()
    ]
    counts = [len(images) for images, _ in part]
    return [sizes[sum(counts[:row]) : sum(counts[: row + 1])] for row in range(len(part))]


def load_chat_folder(folder: Path, dtype: str, setting: str) -> tuple[Any, Any]:
    """Returns the model of a folder, on the CPU, and its processor.

    Args:
        setting: that names the folder, for messages.

    Raises:
        CheckpointError: the folder is missing or incomplete.
    """
    expected = "a folder that transformers' AutoModelForImageTextToText loads"
    model, processor = load_folder(
        AutoModelForImageTextToText, folder, getattr(torch, dtype), expected, setting
    )
    tokenizer = getattr(processor, "tokenizer", None)
    if not (getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None)):
        raise CheckpointError(folder, "no chat template in it", expected, f"check {setting}")
    return model, processor
