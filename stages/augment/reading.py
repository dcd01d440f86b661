"""What a model's answer to an expression comes to, wherever the model runs."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.config import AugmentConfig
from pipeline.ports import CaptionAnswer
from pipeline.types import Augmentation, Expression, Positive, Provenance
from stages.augment.parse import ParsedAnswer, string_spans

logger = logging.getLogger(__name__)

RETRY_TEMPERATURE = 0.5
"""A greedy model would give the same answer again: it is asked again at this temperature."""


def temperature_of(config: AugmentConfig, attempt: int) -> float:
    """The temperature of an attempt, counted from 0."""
    return max(config.temperature, RETRY_TEMPERATURE) if attempt else config.temperature


def read_answer(
    expression: Expression,
    parsed: ParsedAnswer,
    similarity_of: Callable[[str], float | None],
    config: AugmentConfig,
    provenance: Provenance,
) -> CaptionAnswer:
    """Keeps the positives of an answer that are similar enough, and its negatives.

    A text is written in the light of those before it: likely in itself where they are wrong, it is
    wrong with them. So no positive is more similar than one before it.

    Args:
        similarity_of: how likely the model holds a text, in [0, 1]; None where that is not known,
            and the confidence that the answer states stands in for that text alone.
        config: the least similarity.
        provenance: of the texts.
    """
    left_out = Counter(parsed.left_out)
    positives = [Positive(expression.text, 1.0)]
    least = 1.0
    for text, confidence in parsed.positives:
        found = similarity_of(text)
        least = least if found is None else min(least, found)
        similarity = confidence if found is None else least
        if similarity < config.minimum_similarity:
            left_out["positive below minimum_similarity"] += 1
            logger.info(
                "%s: %r dropped, similarity %.3f below %.3f",
                expression.key,
                text,
                similarity,
                config.minimum_similarity,
            )
            continue
        positives.append(Positive(text, confidence, similarity))
    kept = Augmentation(expression.key, tuple(positives), parsed.negatives, provenance)
    return CaptionAnswer(kept, left_out)


def likelihood(
    text: str,
    written: str,
    ends: Sequence[int],
    log_probability: np.ndarray[Any, np.dtype[np.float64]],
) -> float:
    """How likely a model held a text of its answer as it wrote it, in [0, 1].

    The geometric mean of the probabilities of the text's tokens, given the frames, the expression
    and what was written before; 0 where the text is not in the answer.

    Args:
        text: as it was parsed.
        written: the whole answer.
        ends: where each of the L tokens ends in it; looked up by bisection.
        log_probability: natural log of each token's probability [L].
    """
    for value, start, end in string_spans(written):
        if value == text:
            first = bisect_right(ends, start)
            last = max(first + 1, bisect_left(ends, end) + 1)
            chances = log_probability[first:last]
            return float(np.exp(chances.mean())) if chances.size else 0.0
    return 0.0
