"""A sentence as the grounder reads it, and how well a box fits a whole sentence."""

from __future__ import annotations

import re
import unicodedata

import torch
from torch import Tensor

from pipeline.config import GroundConfig

_WITHIN_WORDS = frozenset("-'&%#@/")
"""Punctuation that stays, because it is part of a word or stands for one."""

_LOOSE = re.compile(r"(?<![^\W_])[-']|[-'](?![^\W_])")
"""A hyphen or an apostrophe that is not between two letters or digits."""


def as_caption(text: str) -> str:
    """Returns a sentence as the one sub-sentence that Grounding DINO was trained on.

    It is lower case, with one full stop at its end and no other punctuation between words. A full
    stop or a question mark would open a new sub-sentence, even within a word, so it parts two
    words: 'no. 5' becomes 'no 5'.
    """
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    plain = "".join(" " if _parts_words(letter) else letter for letter in plain)
    return " ".join(_LOOSE.sub(" ", plain).split()) + "."


def _parts_words(letter: str) -> bool:
    return letter not in _WITHIN_WORDS and unicodedata.category(letter).startswith("P")


def sentence_scores(logits: Tensor, owner: Tensor, sentences: int, config: GroundConfig) -> Tensor:
    """Returns the similarity of each box to each whole sentence.

    Args:
        logits: [P, Q, L].
        owner: int64 [P, L], the sentence of each token; -1 for a token that is not a word.
        sentences: S, the largest number of sentences in a caption.
        config: ``score`` and ``best_words``, which say how a sentence's tokens are combined.

    Returns:
        [P, S, Q] in [0, 1]; 0 for a sentence without words.
    """
    words = owner[:, None] == torch.arange(sentences, device=owner.device)[:, None]
    chance = logits.sigmoid()
    if config.score == "mean":
        total = torch.einsum("pql,psl->psq", chance, words.to(chance.dtype))
        return total / words.sum(-1).clamp(min=1)[..., None]
    own = chance[:, None] * words[:, :, None]
    if config.score == "max":
        return own.amax(-1)
    # A missing word counts 0, so that a word of no score changes nothing in a short sentence.
    return own.topk(min(config.best_words, own.shape[-1]), -1).values.sum(-1) / config.best_words
