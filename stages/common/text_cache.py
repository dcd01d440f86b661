"""Sentences that were encoded, kept for when they are asked for again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

R = TypeVar("R")


class KnownTexts(Generic[R]):
    """What an encoder made of each sentence, so that each is encoded once.

    And by itself: what is encoded with a sentence changes its last bits, and a training that goes
    on from a checkpoint meets its sentences in other company.

    Args:
        most: sentences that are kept. Where a call brings more, all but its own are forgotten, so
            that memory does not grow with a data set.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, R] = {}

    def of(self, texts: Sequence[str], encode: Callable[[str], R]) -> list[R]:
        """What belongs to each sentence, in their order; ``encode`` is given those that are not
        known, each once."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._known))
        if len(self._known) + len(missing) > self._most:
            self._known.clear()
            missing = list(dict.fromkeys(texts))
        self._known.update((text, encode(text)) for text in missing)
        return [self._known[text] for text in texts]
