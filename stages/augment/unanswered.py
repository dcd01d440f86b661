"""Handles expressions for which a model has no usable answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from pipeline.errors import UnusableAnswerError
from pipeline.ports import CaptionAnswer
from pipeline.types import Augmentation, Expression, Positive, Provenance

logger = logging.getLogger(__name__)

ALONE = "augmentation of an expression without a usable answer"
"""The reason under which :attr:`CaptionAnswer.left_out` counts them."""


def given_up(
    expression: Expression, model: str, attempts: int, last: UnusableAnswerError | None
) -> UnusableAnswerError:
    """Returns the error for an expression after the last attempt.

    Args:
        model: its name, and where it is served.
        last: the error of the last answer.
    """
    return UnusableAnswerError(
        f"{expression.key}: no usable answer of {model} in {attempts} attempts; the last one:"
        f" {last}; raise augment.retries or augment.max_new_tokens, or take another model"
    )


def settled(
    expressions: Sequence[Expression],
    found: Sequence[CaptionAnswer | UnusableAnswerError],
    provenance: Provenance,
    tokens: Sequence[tuple[int, int]],
) -> list[CaptionAnswer]:
    """Returns an answer for each expression.

    An expression that the model failed at is answered with itself alone. This is logged, and its
    answer counts it.

    Args:
        found: of each expression, the model's answer or why there is none.
        provenance: of an expression alone.
        tokens: that were read and written for each expression.

    Raises:
        UnusableAnswerError: the model failed at every expression. Then the model is more likely to
            be unsuitable than the expressions.
    """
    problems = [item for item in found if isinstance(item, UnusableAnswerError)]
    if problems and len(problems) == len(found):
        raise problems[0]
    done = []
    for expression, item, spent in zip(expressions, found, tokens, strict=True):
        if isinstance(item, UnusableAnswerError):
            logger.warning("%s; it is used without augmentation", item)
            alone = Augmentation(expression.key, (Positive(expression.text, 1.0),), (), provenance)
            item = CaptionAnswer(alone, {ALONE: 1})
        done.append(replace(item, tokens=spent))
    return done
