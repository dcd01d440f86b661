"""Keeps the positives that fit the frames, by another model than the one that wrote them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import CaptionAnswer, Captioner, CaptionRequest, Image
from stages.augment.reading import BELOW_MINIMUM


class TextFrameEncoder(Protocol):
    """What says how well sentences fit frames; see :mod:`stages.augment.dual_encoder`."""

    def cosines(self, images: Sequence[Image], texts: Sequence[str]) -> NDArray[np.float64]: ...


class FilteredCaptioner:
    """A :class:`pipeline.ports.Captioner` whose positives are measured by a dual encoder.

    Cosines of such models lie in a narrow range, which differs from model to model and from video
    to video. So the similarity of a positive is its cosine as a share of the original's: 1 for one
    that fits the frames as well or better.

    Args:
        captioner: that writes the texts, and keeps them all.
        encoder: of frames and sentences.
        minimum: positives with a lower similarity are left out.
    """

    def __init__(self, captioner: Captioner, encoder: TextFrameEncoder, minimum: float) -> None:
        self._captioner, self._encoder, self._minimum = captioner, encoder, minimum

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request, in their order."""
        answers = self._captioner.augment(requests)
        return [
            self._filtered(request, answer)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def close(self) -> None:
        """Closes the captioner's connections, if it has any."""
        close = getattr(self._captioner, "close", None)
        if close is not None:
            close()

    def _filtered(self, request: CaptionRequest, answer: CaptionAnswer) -> CaptionAnswer:
        original, *others = answer.augmentation.positives
        if not others:
            return replace(answer, similarities=())
        texts = [original.text, *(item.text for item in others)]
        similarity = shares_of_first(self._encoder.cosines(request.images, texts))
        measured = [
            replace(item, similarity=value)
            for item, value in zip(others, similarity[1:].tolist(), strict=True)
        ]
        kept = [item for item in measured if item.similarity >= self._minimum]
        left_out = Counter(answer.left_out)
        left_out[BELOW_MINIMUM] += len(measured) - len(kept)
        return CaptionAnswer(
            replace(answer.augmentation, positives=(original, *kept)),
            +left_out,
            answer.tokens,
            tuple(item.similarity for item in measured),
        )


def shares_of_first(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns cosines as shares of the first, within [0, 1].

    If the first fits the frames no better than chance, the others cannot be measured by it; they
    are compared with the highest of all.
    """
    against = cosines[0] if cosines[0] > 0 else cosines.max()
    if against <= 0:
        return np.ones_like(cosines)
    shares: NDArray[np.float64] = np.clip(cosines / against, 0, 1)
    return shares
