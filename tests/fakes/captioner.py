"""A scripted image-text-to-text model with a processor, character by character."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

LETTERS = "".join(chr(code) for code in range(32, 127))
PAD, END = 0, 1


class FakeTokenizer:
    pad_token_id = PAD
    eos_token_id = END
    unk_token_id = None
    padding_side = "right"

    def encode(self, text: str) -> list[int]:
        return [2 + LETTERS.index(character) for character in text]

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return "".join(LETTERS[token - 2] for token in tokens if token >= 2)


class Inputs(dict[str, Any]):
    def to(self, device: Any, dtype: Any = None) -> Inputs:
        return self


class FakeProcessor:
    def __init__(self) -> None:
        self.tokenizer = FakeTokenizer()
        self.prompts: list[list[str]] = []
        self.images: list[Any] = []
        self.chat_template = ""
        self.template_settings: list[dict[str, Any]] = []

    def apply_chat_template(self, messages: Any, **settings: Any) -> str:
        self.template_settings.append(settings)
        [message] = messages
        return "".join(
            "<image>" if part["type"] == "image" else part["text"] for part in message["content"]
        )

    def __call__(self, text: list[str], images: Any, **_: Any) -> Inputs:
        self.prompts.append(text)
        self.images.append(images)
        return Inputs(input_ids=torch.zeros(len(text), 3, dtype=torch.long))


class FakeModel:
    """Writes what ``script(prompt, attempt)`` says, each character with ``probability``."""

    device = torch.device("cpu")
    dtype = torch.float32

    class generation_config:  # noqa: N801
        eos_token_id = END

    def __init__(
        self,
        processor: FakeProcessor,
        script: Callable[[str, int], str],
        probability: Callable[[str], float] = lambda letter: 0.9,
    ) -> None:
        self._processor = processor
        self._script = script
        self._probability = probability
        self.asked: dict[str, int] = {}

    def generate(
        self, input_ids: torch.Tensor, generation_config: Any, logits_processor: Any
    ) -> torch.Tensor:
        answers = []
        for prompt in self._processor.prompts[-1]:
            attempt = self.asked.get(prompt, 0)
            self.asked[prompt] = attempt + 1
            answers.append([*self._processor.tokenizer.encode(self._script(prompt, attempt)), END])
        sequences = input_ids
        for step in range(max(map(len, answers))):
            logits = torch.stack(
                [self._logits(row[step] if step < len(row) else PAD) for row in answers]
            )
            chosen = logits_processor(sequences, logits).argmax(-1, keepdim=True)
            sequences = torch.cat([sequences, chosen], 1)
        return sequences

    def _logits(self, token: int) -> torch.Tensor:
        """The token has its probability; the rest is spread over the others."""
        words = len(LETTERS) + 2
        chance = self._probability(LETTERS[token - 2]) if token >= 2 else 0.999
        logits = torch.full((words,), math.log((1 - chance) / (words - 1)))
        logits[token] = math.log(chance)
        return logits
