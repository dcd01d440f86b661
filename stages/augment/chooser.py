"""Chooses the tokens of an answer, and keeps the probability that the model gave each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class Chooser(LogitsProcessor):
    """Makes greedy decoding sample, and records the log probability of each choice.

    It adds seeded Gumbel noise. Every row has its own generator, so that a sample does not depend
    on the other rows of its batch.
    """

    supports_continuous_batching = False

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.log_probability: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.float()
        chosen = scores
        if self._temperature > 0:
            noise = torch.stack(
                [
                    -torch.empty(scores.shape[-1]).exponential_(generator=generator).log()
                    for generator in self._generators
                ]
            )
            chosen = scores / self._temperature + noise.to(scores.device)
        best = chosen.argmax(-1, keepdim=True)
        self.log_probability.append(scores.log_softmax(-1).gather(-1, best)[:, 0].cpu())
        return chosen
