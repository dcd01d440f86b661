"""Positives and hard negatives by an image-text-to-text model of ``transformers``.

It takes any checkpoint with a chat template that ``AutoModelForImageTextToText`` and
``AutoProcessor`` load. The model gets the frames, as several images or as a video with times, then
the prompt. Nothing is downloaded.

Letters: B requests of a batch, L tokens, V words of the vocabulary.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList

from pipeline.config import AugmentConfig
from pipeline.errors import UnusableAnswerError
from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import Expression, Provenance
from stages.augment.chooser import Chooser
from stages.augment.parse import parse_answer
from stages.augment.prefix import SharedFrames
from stages.augment.prompt import Prompt
from stages.augment.reading import read_answer, temperature_of
from stages.augment.unanswered import given_up, settled
from stages.augment.vision import placeholders, visual_inputs
from stages.common.chat_models import end_tokens, without_thoughts
from stages.common.completion import likelihood
from stages.common.fitting_batches import FittingBatches

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the model wrote for one request.

    Attributes:
        text: decoded, without special tokens.
        tokens: the L token ids, up to the end token.
        log_probability: float64 [L], natural log of the probability that the model gave each
            token, before any temperature.
        read: number of tokens of the request, frames included.
    """

    text: str
    tokens: tuple[int, ...]
    log_probability: np.ndarray[Any, np.dtype[np.float64]]
    read: int = 0


class ModelCaptioner:
    """A :class:`pipeline.ports.Captioner` over a model and its processor.

    Args:
        model: an image-text-to-text model, on its device, in evaluation mode.
        processor: of that model, with a chat template.
        prompt: what the model is asked.
        config: counts, thresholds, batch size, retries.
        name: stored as the model's name.
        revision: digest of the weights, stored with every text.
        seed: seed of the sampling, stored with every text.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompt: Prompt,
        config: AugmentConfig,
        name: str,
        revision: str,
        seed: int,
    ) -> None:
        self._model = model
        self._processor = processor
        self._prompt = prompt
        self._config = config
        self._seed = seed
        self._provenance = Provenance(name, revision, prompt.version, seed)
        self._fitting = FittingBatches(
            config.batch_texts,
            "sentence with its frames",
            "augment.batch_texts",
            "lower augment.frames or augment.max_new_tokens, or take a smaller model",
        )
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._ends = end_tokens(model, tokenizer)
        # What is not set in a call is inherited from generation_config.json: penalties, which
        # change the probabilities, and settings of the sampling, which is the chooser's here.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self._ends))
        self._template_kwargs = without_thoughts(processor) | config.chat_template_kwargs

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request, in their order.

        Requests of similar length share a batch. If an answer does not parse, the model is asked
        again. If an expression has no usable answer after ``retries`` further attempts, it is used
        without augmentation.

        Raises:
            UnusableAnswerError: no request has a usable answer.
        """
        frames = self.shared_frames(requests)
        done: dict[int, CaptionAnswer] = {}
        problems: dict[int, UnusableAnswerError] = {}
        tokens = [(0, 0)] * len(requests)
        for attempt in range(self._config.retries + 1):
            open_rows = [row for row in range(len(requests)) if row not in done]
            for rows in self._batches(requests, open_rows):
                batch = [requests[row] for row in rows]
                answers = self._fitting.over(
                    batch, partial(self.answers, attempt=attempt, frames=frames)
                )
                for row, request, answer in zip(rows, batch, answers, strict=True):
                    read, written = tokens[row]
                    tokens[row] = read + answer.read, written + len(answer.tokens)
                    try:
                        done[row] = self._read(request.expression, answer)
                    except UnusableAnswerError as error:
                        key = request.expression.key
                        logger.info("%s, attempt %d: %s", key, attempt + 1, error)
                        problems[row] = error
        expressions = [request.expression for request in requests]
        name, attempts = self._provenance.model, self._config.retries + 1
        found = [
            done[row] if row in done else given_up(expression, name, attempts, problems[row])
            for row, expression in enumerate(expressions)
        ]
        return settled(expressions, found, self._provenance, tokens)

    def _batches(
        self, requests: Sequence[CaptionRequest], rows: Sequence[int]
    ) -> Iterator[list[int]]:
        """Yields batches of rows of similar length and equally many images."""

        def size(row: int) -> tuple[int, int]:
            return len(requests[row].images), len(requests[row].expression.text)

        batch: list[int] = []
        for row in sorted(rows, key=size):
            full = len(batch) == self._config.batch_texts
            if batch and (full or size(row)[0] != size(batch[0])[0]):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def shared_frames(self, requests: Sequence[CaptionRequest]) -> SharedFrames:
        """Returns the frames that requests share. The model has not read them yet."""
        return SharedFrames(self._model, self._processor, requests)

    def answers(
        self, batch: Sequence[CaptionRequest], attempt: int = 0, frames: SharedFrames | None = None
    ) -> list[Answer]:
        """Returns the model's answers to B requests with equally many images, from one pass.

        Args:
            attempt: from 1 on, the temperature is at least ``RETRY_TEMPERATURE``.
            frames: frames that batches share; None reads them for every request.
        """
        inputs = self._inputs(batch, frames)
        chooser = Chooser(
            temperature_of(self._config, attempt),
            [_seed(self._seed, str(item.expression.key), attempt) for item in batch],
        )
        tokenizer = self._processor.tokenizer
        ends = self._ends
        settings = GenerationConfig(
            max_new_tokens=self._config.max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            eos_token_id=sorted(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.inference_mode():
            sequences = self._model.generate(
                **inputs,
                generation_config=settings,
                logits_processor=LogitsProcessorList([chooser]),
            )
        written = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        chances = torch.stack(chooser.log_probability, dim=1).double().numpy()
        asked = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).sum(1).tolist()
        answers = []
        for tokens, chance, read in zip(written, chances, asked, strict=True):
            length = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
            kept = tuple(tokens[:length])
            answers.append(Answer(self._decode(kept), kept, chance[:length], read))
        return answers

    def _inputs(self, batch: Sequence[CaptionRequest], frames: SharedFrames | None = None) -> Any:
        texts = self._texts(batch)
        if frames is not None:
            shared = frames.inputs(texts, batch)
            if shared is not None:
                return shared
        inputs = self._processor(
            text=texts, **visual_inputs(batch), padding=True, return_tensors="pt"
        )
        return inputs.to(self._model.device, dtype=self._model.dtype)

    def _texts(self, batch: Sequence[CaptionRequest]) -> list[str]:
        texts = []
        for request in batch:
            prompt = self._prompt.of(request, self._config)
            content = [*placeholders(request), {"type": "text", "text": prompt}]
            texts.append(
                self._processor.apply_chat_template(
                    [{"role": "user", "content": content}],
                    add_generation_prompt=True,
                    tokenize=False,
                    **self._template_kwargs,
                )
            )
        return texts

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._processor.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _read(self, expression: Expression, answer: Answer) -> CaptionAnswer:
        parsed = parse_answer(
            answer.text,
            expression.text,
            self._config.positives - 1,
            self._config.negatives,
        )
        # To decode every prefix would be quadratic, so only those that are asked for are.
        ends = _Prefixes(self, answer.tokens)
        return read_answer(
            expression,
            parsed,
            lambda span: likelihood(span, ends, answer.log_probability),
            self._config,
            self._provenance,
        )


class _Prefixes(Sequence[int]):
    """For each i, the length of the text that the first i + 1 tokens decode to."""

    def __init__(self, captioner: ModelCaptioner, tokens: Sequence[int]) -> None:
        self._captioner = captioner
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: Any) -> Any:
        return len(self._captioner._decode(self._tokens[: index + 1]))


def _seed(seed: int, key: str, attempt: int) -> int:
    """Returns the seed of a sample and an attempt, in [0, 2^63)."""
    digest = hashlib.sha256(f"{seed}\n{key}\n{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
