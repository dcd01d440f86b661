"""Positives and hard negatives by rules, without a model.

Positives reword a phrase without changing what is true ('moving left' -> 'heading left').
Negatives swap one word or phrase for another of its group ('the red star' -> 'the blue star'),
typed by the group; expressions of other objects of the same video come first, as the hardest.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.config import AugmentConfig
from pipeline.ports import Image
from pipeline.types import (
    Augmentation,
    Expression,
    Negative,
    NegativeKind,
    Positive,
    Provenance,
    VideoRef,
)
from stages.augment.parse import normalise, says_the_same, select_negatives

logger = logging.getLogger(__name__)

LEXICON_VERSION = "lexicon-1"

REWORDED = 0.9
"""Confidence of a positive after one rewording; each further one multiplies."""


@dataclass(frozen=True)
class Group:
    """Phrases that take each other's place; every swap makes the sentence untrue.

    Attributes:
        kind: of the negatives that a swap makes.
        members: phrases; the nearest opposites stand next to each other.
    """

    kind: NegativeKind
    members: tuple[str, ...]


def _group(kind: NegativeKind, members: str) -> Group:
    return Group(kind, tuple(part.strip() for part in members.split("|")))


_MOTION_VERBS = (
    "moving|going|heading|walking|running|facing|looking|turning|flying|swimming|riding|driving"
    "|jumping|crawling|sliding|drifting|rolling"
)

# Longer phrases are matched first and shadow the words inside them.
GROUPS: tuple[Group, ...] = (
    *(
        _group("action", f"{verb} left|{verb} right|{verb} up|{verb} down")
        for verb in _MOTION_VERBS.split("|")
    ),
    *(
        _group("action", f"{verb} to the left|{verb} to the right")
        for verb in _MOTION_VERBS.split("|")
    ),
    _group("action", "moving forward|moving backward"),
    _group("relation", "to the left of|to the right of|above|below"),
    _group("relation", "left of|right of"),
    _group("relation", "on the left side of|on the right side of"),
    _group("relation", "on the left side|on the right side"),
    _group("relation", "on the far left|on the far right"),
    _group("relation", "on the left|on the right|in the middle|at the top|at the bottom"),
    _group("relation", "to the left|to the right"),
    _group("relation", "in the center|in the corner"),
    _group("relation", "in the centre|in the corner"),
    _group("relation", "in front of|behind"),
    _group("relation", "in the front|in the back"),
    _group("relation", "at the front|at the back"),
    _group("relation", "in the foreground|in the background"),
    _group("relation", "on top of|under"),
    _group("relation", "leftmost|rightmost|topmost|bottommost"),
    _group("relation", "closest|farthest"),
    _group("relation", "nearest|furthest"),
    _group("relation", "over|underneath"),
    _group("relation", "inside|outside"),
    _group("relation", "near|far from"),
    _group("relation", "top|bottom"),
    _group("relation", "upper|lower"),
    _group("relation", "front|rear"),
    _group("relation", "first|second|third|last"),
    _group("relation", "left|right"),
    _group("attribute", "red|green|blue|yellow|purple|orange|white|black"),
    _group("attribute", "brown|gray|pink|white"),
    _group("attribute", "grey|brown|black|white"),
    _group("attribute", "small|large"),
    _group("attribute", "little|big"),
    _group("attribute", "tiny|huge"),
    _group("attribute", "smaller|larger"),
    _group("attribute", "smallest|largest"),
    _group("attribute", "biggest|smallest"),
    _group("attribute", "tall|short"),
    _group("attribute", "long|short"),
    _group("attribute", "young|old"),
    _group("attribute", "dark|light"),
    _group("attribute", "striped|plain"),
    _group("attribute", "thin|thick"),
    _group("action", "moving up|moving down|moving left|moving right|standing still|spinning"),
    _group("action", "standing|sitting|walking|running|lying"),
    _group("action", "jumping|crouching"),
    _group("action", "moving|standing still"),
    _group("action", "stationary|moving"),
    _group("action", "riding|pushing"),
    _group("action", "eating|playing"),
    _group("action", "flying|swimming"),
    _group("action", "holding|throwing"),
    _group("action", "climbing|falling"),
    _group("action", "turning|staying"),
    _group("category", "circle|square|triangle|star|cross"),
    _group("category", "man|woman"),
    _group("category", "boy|girl"),
    _group("category", "person|dog"),
    _group("category", "dog|cat|horse|sheep"),
    _group("category", "cow|horse"),
    _group("category", "bird|fish"),
    _group("category", "car|truck|bus|motorcycle|bicycle"),
    _group("category", "bike|car"),
    _group("category", "surfboard|skateboard"),
    _group("category", "shirt|jacket"),
    _group("category", "lion|tiger"),
    _group("category", "zebra|giraffe"),
    _group("category", "duck|rabbit"),
    _group("category", "panda|monkey"),
)

REWORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("to the left of", ("left of", "on the left side of")),
    ("to the right of", ("right of", "on the right side of")),
    ("on the left side of", ("to the left of",)),
    ("on the right side of", ("to the right of",)),
    ("on the left side", ("on the left",)),
    ("on the right side", ("on the right",)),
    ("on the left", ("on the left side", "at the left")),
    ("on the right", ("on the right side", "at the right")),
    ("at the top", ("near the top", "in the upper part")),
    ("at the bottom", ("near the bottom", "in the lower part")),
    ("in the middle", ("in the center", "at the center")),
    ("in the center", ("in the middle",)),
    ("in front of", ("before",)),
    ("leftmost", ("furthest left",)),
    ("rightmost", ("furthest right",)),
    ("above", ("over", "higher than")),
    ("below", ("under", "lower than")),
    ("standing still", ("not moving", "staying in place")),
    ("spinning", ("rotating", "turning around")),
    *((f"moving {way}", (f"going {way}", f"heading {way}")) for way in ("left", "right")),
    ("moving up", ("going up", "heading upward")),
    ("moving down", ("going down", "heading downward")),
    ("sitting", ("seated",)),
    ("small", ("little",)),
    ("large", ("big",)),
    ("little", ("small",)),
    ("big", ("large",)),
    ("gray", ("grey",)),
    ("grey", ("gray",)),
    ("woman", ("lady",)),
    ("man", ("guy",)),
    ("bicycle", ("bike",)),
    ("motorcycle", ("motorbike",)),
)

_PARTICIPLE = re.compile(
    r"^((?:an?|the)\s+(?:(?!in\b|with\b)\w+\s+){0,4}?\w+)\s+(\w+ing\b.*)$", re.IGNORECASE
)
_PLACE = re.compile(
    r"^((?:an?|the)\s+(?:(?!in\b|with\b)\w+\s+){0,4}?\w+)\s+"
    r"((?:on|at|in the|to the|above|below|behind)\b.*)$",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(an?|the)\s+(?=\w)", re.IGNORECASE)


def _pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    ordered = sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, ordered)) + r")\b", re.IGNORECASE)


def _distance(members: tuple[str, ...], place: int, other: str) -> tuple[int, str]:
    """How far a member stands from the opposite of the one at ``place``: its pair is 0."""
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
    """Every sentence that one swap makes of the text, in turns over the places to swap at, so
    that the first few differ in many ways; not deduplicated.
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
    """(sentence, confidence) of every rewording by rule, the surest first; not deduplicated."""
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
        seed: stored with every text; the rules draw nothing at random.
    """

    def __init__(self, config: AugmentConfig, seed: int) -> None:
        self._config = config
        self._provenance = Provenance("lexicon", lexicon_revision(), LEXICON_VERSION, seed)

    def augment(
        self, requests: Sequence[tuple[VideoRef, Sequence[Image], Expression, Sequence[str]]]
    ) -> list[Augmentation]:
        """One augmentation a request; fewer than K or N where the rules find no more."""
        return [self._augment(expression, others) for _, _, expression, others in requests]

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
    """Digest of the rules, first 12 hex digits; another lexicon writes other texts."""
    return hashlib.sha256(repr((GROUPS, REWORDINGS)).encode()).hexdigest()[:12]
