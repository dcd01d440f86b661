"""A cache of encoded sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

R = TypeVar("R")


class KnownTexts(Generic[R]):
    """Keeps what an encoder returned for each sentence, so that each is encoded once.

    Each sentence is encoded alone. The other sentences of a batch would change the last bits of the
    result, and a training that resumes meets its sentences in other batches.

    Args:
        most: largest number of sentences that are kept. If a call exceeds it, all sentences but
            those of the call are dropped, so that memory does not grow with the data set.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, R] = {}

    def of(self, texts: Sequence[str], encode: Callable[[str], R]) -> list[R]:
        """Returns the result for each sentence, in their order.

        Args:
            encode: called once for each sentence that is not in the cache.
        """
        missing = list(dict.fromkeys(text for text in texts if text not in self._known))
        if len(self._known) + len(missing) > self._most:
            self._known.clear()
            missing = list(dict.fromkeys(texts))
        self._known.update((text, encode(text)) for text in missing)
        return [self._known[text] for text in texts]
