"""Positives and hard negatives by rules, without a model.

Positives reword a phrase without changing what is true ('moving left' -> 'heading left').
Negatives swap one word or phrase for another of its group ('the red star' -> 'the blue star'),
and the group gives their kind. Expressions of other objects of the same video come first, since
they are the hardest.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial

from pipeline.config import AugmentConfig
from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import (
    Augmentation,
    Expression,
    Negative,
    NegativeKind,
    Positive,
    Provenance,
)
from stages.augment.parse import normalise, says_the_same, select_negatives
from stages.augment.vocabulary import GROUPS, REWORDINGS

logger = logging.getLogger(__name__)

LEXICON_VERSION = "lexicon-1"

REWORDED = 0.9
"""Confidence of a positive after one rewording; each further one multiplies."""


_PARTICIPLE = re.compile(
    r"^((?:an?|the)\s+(?:(?!in\b|with\b)\w+\s+){0,4}?\w+)\s+(\w+ing\b.*)$", re.IGNORECASE
)
_PLACE = re.compile(
    r"^((?:an?|the)\s+(?:(?!in\b|with\b)\w+\s+){0,4}?\w+)\s+"
    r"((?:on|at|in the|to the|above|below|behind)\b.*)$",
    re.IGNORECASE,
)


def _pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    ordered = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, ordered)) + r")\b", re.IGNORECASE)


def _distance(members: tuple[str, ...], place: int, other: str) -> tuple[int, str]:
    """Returns the distance of a member from the opposite of the one at ``place``; 0 for itself."""
    return abs(members.index(other) - (place ^ 1)), other


_SWAPS: dict[str, list[tuple[NegativeKind, str]]] = {}
for _entry in GROUPS:
    for _place, _member in enumerate(_entry.members):
        # Others of the group, the neighbour (its opposite) first.
        _others = sorted(
            (m for m in _entry.members if m != _member),
            key=partial(_distance, _entry.members, _place),
        )
        _SWAPS.setdefault(_member, []).extend((_entry.kind, other) for other in _others)

_SWAP_PATTERN = _pattern(tuple(_SWAPS))
_REWORDING_PATTERN = _pattern(tuple(phrase for phrase, _ in REWORDINGS))
_REWORDINGS = dict(REWORDINGS)


def swaps(text: str) -> Iterator[Negative]:
    """Yields every sentence that one swap makes of the text, with duplicates.

    It takes turns over the places where it can swap, so that the first few differ in many ways.
    """
    places = []
    for match in _SWAP_PATTERN.finditer(text):
        options = _SWAPS[match.group().lower()]
        places.append([(match, kind, other) for kind, other in options])
    for turn in range(max(map(len, places), default=0)):
        for options_at in places:
            if turn < len(options_at):
                match, kind, other = options_at[turn]
                swapped = _substitute(text, match, other)
                yield Negative(swapped, kind)


def rewordings(text: str) -> Iterator[tuple[str, float]]:
    """Yields (sentence, confidence) for every rewording, most confident first, with duplicates."""
    first: list[str] = []
    matches = list(_REWORDING_PATTERN.finditer(text))
    for turn in range(3):
        for match in matches:
            options = _REWORDINGS[match.group().lower()]
            if turn < len(options):
                first.append(_substitute(text, match, options[turn]))
    for pattern in (_PARTICIPLE, _PLACE):
        found = pattern.match(text)
        if found is not None:
            first.append(f"{found.group(1)} that is {found.group(2)}")
            break
    for sentence in first:
        yield sentence, REWORDED
    for sentence in first:
        for match in _REWORDING_PATTERN.finditer(sentence):
            if match.group().lower() in text.lower():
                options = _REWORDINGS[match.group().lower()]
                yield _substitute(sentence, match, options[0]), REWORDED**2


def _substitute(text: str, match: re.Match[str], other: str) -> str:
    if match.group()[:1].isupper():
        other = other[:1].upper() + other[1:]
    before = text[: match.start()]
    # 'a orange circle' reads wrong to a language model: the article goes with its word.
    if re.search(r"\ban?\s$", before, re.IGNORECASE):
        stem = re.sub(r"(?i)(\ba)n?\s$", r"\1", before)
        before = stem + ("n " if other[:1].lower() in "aeiou" else " ")
    return before + other + text[match.end() :]


class LexiconCaptioner:
    """A :class:`pipeline.ports.Captioner` that needs no model, no weights and no frames.

    Args:
        config: ``positives`` and ``negatives`` say how many are written at most.
        seed: stored with every text. The rules use no random numbers.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self._config = config
        self._provenance = Provenance("lexicon", lexicon_revision(), LEXICON_VERSION, seed)

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request; fewer than K or N texts where the rules find no more."""
        return [CaptionAnswer(self._augment(item.expression, item.others)) for item in requests]

    def _augment(self, expression: Expression, others: Sequence[str]) -> Augmentation:
        original = expression.text
        positives = [Positive(original, 1.0)]
        seen = {normalise(original)}
        for text, confidence in rewordings(original):
            if len(positives) >= self._config.positives:
                break
            # A rewording that another object's expression equals would name that object.
            if normalise(text) in seen or any(says_the_same(text, other) for other in others):
                continue
            seen.add(normalise(text))
            positives.append(Positive(text, confidence))
        hard = [Negative(text, "category") for text in others]
        negatives = select_negatives(
            [*hard, *swaps(original)],
            [positive.text for positive in positives],
            self._config.negatives,
        )
        return Augmentation(expression.key, tuple(positives), tuple(negatives), self._provenance)


def lexicon_revision() -> str:
    """Returns the first 12 hex digits of the digest of the rules."""
    return hashlib.sha256(repr((GROUPS, REWORDINGS)).encode()).hexdigest()[:12]
