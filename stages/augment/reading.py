"""Reads a model's answer to an expression, for local models and endpoints."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from pipeline.config import AugmentConfig
from pipeline.ports import CaptionAnswer
from pipeline.types import Augmentation, Expression, Positive, Provenance
from stages.augment.parse import ParsedAnswer

logger = logging.getLogger(__name__)

RETRY_TEMPERATURE = 0.5
"""Temperature of further attempts. At 0 the model would give the same answer again."""


BELOW_MINIMUM = "positive below minimum_similarity"
"""The reason under which :attr:`CaptionAnswer.left_out` counts them."""


def temperature_of(config: AugmentConfig, attempt: int) -> float:
    """Returns the temperature of an attempt; the first is 0."""
    return max(config.temperature, RETRY_TEMPERATURE) if attempt else config.temperature


def read_answer(
    expression: Expression,
    parsed: ParsedAnswer,
    similarity_of: Callable[[tuple[int, int]], float | None],
    config: AugmentConfig,
    provenance: Provenance,
) -> CaptionAnswer:
    """Keeps the negatives of an answer, and the positives that are similar enough.

    A text depends on those written before it. If those are wrong, it is wrong with them, however
    likely it is after them. So no positive gets a larger similarity than one before it.

    Args:
        similarity_of: likelihood that the model gave the text between two characters of its
            answer, in [0, 1]. If it is None, the confidence stated in the answer is used for this
            text.
        config: gives the minimum similarity.
        provenance: stored with the texts.
    """
    left_out = Counter(parsed.left_out)
    positives = [Positive(expression.text, 1.0)]
    least, measured = 1.0, list[float]()
    for text, confidence in parsed.positives:
        found = similarity_of(parsed.spans[text])
        least = least if found is None else min(least, found)
        similarity = confidence if found is None else least
        measured.append(similarity)
        if similarity < config.minimum_similarity:
            left_out[BELOW_MINIMUM] += 1
            logger.info(
                "%s: %r dropped, similarity %.3f below %.3f",
                expression.key,
                text,
                similarity,
                config.minimum_similarity,
            )
            continue
        positives.append(Positive(text, confidence, similarity))
    kept = Augmentation(expression.key, tuple(positives), parsed.negatives, provenance, parsed.noun)
    return CaptionAnswer(kept, left_out, similarities=tuple(measured))
