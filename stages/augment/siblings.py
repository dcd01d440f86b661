"""Finds the sentences of a video that are about the same object, or about others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.types import Augmentation, Expression, Positive

SIBLING_CONFIDENCE = 0.9
"""Confidence of a sentence that the data set gives for the same object. The original has 1."""


def others_of(expression: Expression, expressions: Sequence[Expression]) -> list[str]:
    """Returns the sentences of the same video that are known to be about other objects.

    There are none if the data set does not say which object a sentence is about.
    """
    own = set(expression.object_ids)
    if not own:
        return []
    return [item.text for item in expressions if item.object_ids and not own & set(item.object_ids)]


def with_siblings(
    augmentation: Augmentation, expressions: Sequence[Expression], positives: int
) -> Augmentation:
    """Adds other sentences that are known to be about the same object to the positives.

    They come after the original and before the captioner's texts, since people wrote them. Nothing
    changes if the data set does not say which object a sentence is about.

    Args:
        positives: K, the largest number of positives, the original included.
    """
    own = next(e for e in expressions if e.key == augmentation.key)
    siblings = [
        Positive(item.text, SIBLING_CONFIDENCE)
        for item in expressions
        if own.object_ids and item.object_ids == own.object_ids and item.text != own.text
    ]
    texts = {item.text for item in siblings}
    written = [item for item in augmentation.positives[1:] if item.text not in texts]
    kept = (augmentation.positives[0], *siblings, *written)[:positives]
    negatives = tuple(item for item in augmentation.negatives if item.text not in texts)
    return replace(augmentation, positives=kept, negatives=negatives)
