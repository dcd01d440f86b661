"""From a model's answer to checked positives and negatives.

The answer is one JSON object, ``{"positives": [{"text", "confidence"}], "negatives": [{"text",
"kind"}]}``. It is read leniently (:mod:`stages.augment.items`): an item that cannot be read or used
is left out and counted. An answer without any positive that can be read is an error, so that the
model is asked again.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import UnusableAnswerError
from pipeline.types import NEGATIVE_KINDS, Negative, NegativeKind
from pipeline.words import words_of
from stages.augment.items import Item, Lists, Written, read_lists, read_noun, value_of

MAXIMUM_WORDS = 40
MAXIMUM_CHARACTERS = 300
UNSTATED_CONFIDENCE = 0.5
"""Confidence of a positive whose item states none."""

_TEXT = ("text", "expression", "sentence", "phrase", "caption")
_CONFIDENCE = ("confidence", "score", "probability")
_KIND = ("kind", "type")

_SYNONYMS: Mapping[NegativeKind, str] = {
    "category": "object class noun entity identity species",
    "attribute": "color colour size shape appearance look clothing material texture pattern age",
    "action": "motion movement activity pose verb behavior behaviour state",
    "relation": "spatial position location place direction relationship relational orientation",
}
_KINDS: Mapping[str, NegativeKind] = {
    word: kind for kind in NEGATIVE_KINDS for word in (kind, *_SYNONYMS[kind].split())
}

MAXIMUM_NOUN_WORDS = 4
_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER = re.compile(r"([+-]?[0-9]*\.?[0-9]+)\s*(%?)")


@dataclass(frozen=True)
class ParsedAnswer:
    """The parts of an answer that can be used.

    Attributes:
        positives: (text, confidence in [0, 1]) in the model's order, without the original.
        negatives: with their kinds, in the model's order.
        left_out: reason -> how many texts.
        spans: text of a positive -> the characters of the answer between its quotes.
        noun: the sort of object that the target is, in lower case, if the answer names one.
    """

    positives: tuple[tuple[str, float], ...]
    negatives: tuple[Negative, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    noun: str | None = None


def normalise(text: str) -> tuple[str, ...]:
    """Returns the words of a sentence without case, punctuation and articles; may be empty."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"\w+(?:'\w+)?", folded)
    return tuple(word for word in words if word not in _ARTICLES) or tuple(words)


def says_the_same(first: str, second: str) -> bool:
    """Whether one sentence equals, or re-orders the words of, the other."""
    return sorted(normalise(first)) == sorted(normalise(second))


def clean(text: str) -> str:
    """Returns a text as one line without control characters and repeated blanks."""
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Cf") else c for c in text)
    return " ".join(visible.split())


def parse_answer(answer: str, original: str, positives: int, negatives: int) -> ParsedAnswer:
    """Parses, fixes and checks an answer.

    Args:
        answer: what the model wrote.
        original: the expression; the positives leave it out.
        positives: at most this many are kept, the original not counted.
        negatives: at most this many are kept.

    Raises:
        UnusableAnswerError: no list of positives, or none of its items can be read.
    """
    lists = _load(answer)
    left_out = Counter(lists.lost)
    typed = _negatives(lists.items.get("negative", ()), left_out)
    pairs = _positives(lists.items["positive"], left_out)
    if not pairs and left_out:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.items())
        raise UnusableAnswerError(
            f"no positive can be read ({reasons}); expected objects with text and confidence; the"
            f" answer begins {answer[:80]!r}"
        )
    kept = _select_positives(
        [(item.text, confidence) for item, confidence in pairs], original, positives, left_out
    )
    true_texts = [original, *(text for text, _ in kept)]
    return ParsedAnswer(
        tuple(kept),
        tuple(select_negatives(typed, true_texts, negatives, left_out)),
        dict(left_out),
        {item.text: item.span for item, _ in reversed(pairs)},
        _noun(answer),
    )


def select_negatives(
    negatives: Iterable[Negative],
    positives: Sequence[str],
    limit: int,
    left_out: dict[str, int] | None = None,
) -> list[Negative]:
    """Returns at most ``limit`` negatives that differ from each other and from every positive.

    Args:
        negatives: candidates, best first.
        positives: sentences true of the target, the original among them.
        limit: largest number of negatives.
        left_out: reason -> count; this function adds to it.
    """
    counts = {} if left_out is None else left_out
    barred = {tuple(sorted(normalise(text))) for text in positives}
    seen: set[tuple[str, ...]] = set()
    kept: list[Negative] = []
    for negative in negatives:
        words = normalise(negative.text)
        reason = _unfit(negative.text)
        if reason is None and tuple(sorted(words)) in barred:
            reason = "negative says what a positive says"
        elif reason is None and words in seen:
            reason = "negative twice"
        elif reason is None and len(kept) >= limit:
            reason = "more negatives than asked for"
        if reason is not None:
            counts[reason] = counts.get(reason, 0) + 1
            continue
        seen.add(words)
        kept.append(negative)
    return kept


def _select_positives(
    pairs: Sequence[tuple[str, float]], original: str, limit: int, left_out: dict[str, int]
) -> list[tuple[str, float]]:
    seen = {normalise(original)}
    kept: list[tuple[str, float]] = []
    for text, confidence in pairs:
        reason = _unfit(text)
        if reason is None and normalise(text) in seen:
            reason = "positive twice"
        elif reason is None and len(kept) >= limit:
            reason = "more positives than asked for"
        if reason is not None:
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        seen.add(normalise(text))
        kept.append((text, confidence))
    return kept


def _noun(answer: str) -> str | None:
    """Returns the words of the noun; None without any, and for a text that is longer than one."""
    words = normalise(clean(read_noun(answer)))
    return " ".join(words) if 0 < len(words) <= MAXIMUM_NOUN_WORDS else None


def _unfit(text: str) -> str | None:
    words = normalise(text)
    if not words:
        return "text without words"
    if len(text) > MAXIMUM_CHARACTERS or len(words_of(text)) > MAXIMUM_WORDS:
        return "text too long"
    return None


def _load(answer: str) -> Lists:
    lists = read_lists(answer)
    expected = "expected one JSON object with the lists positives and negatives"
    if lists is None:
        raise UnusableAnswerError(
            f"the answer names no list of positives; {expected}; it begins {answer[:80]!r}"
        )
    if "positive" not in lists.items:
        found = lists.not_lists.get("positive", "missing")
        raise UnusableAnswerError(f"positives is {found!r}; {expected}")
    return lists


def _positives(items: Iterable[Item], left_out: Counter[str]) -> list[tuple[Written, float]]:
    found = []
    for item in items:
        text, stated = _text(item), value_of(item, _CONFIDENCE)
        confidence = UNSTATED_CONFIDENCE if stated is None else _confidence(stated)
        if text is None:
            left_out["positive without a text"] += 1
        elif confidence is None:
            left_out["positive whose confidence is not in 0 to 1"] += 1
        else:
            found.append((text, confidence))
    return found


def _negatives(items: Iterable[Item], left_out: Counter[str]) -> list[Negative]:
    found = []
    for item in items:
        text, kind = _text(item), _kind(value_of(item, _KIND))
        if text is None:
            left_out["negative without a text"] += 1
        elif kind is None:
            left_out["negative without a known kind"] += 1
        else:
            found.append(Negative(text.text, kind))
    return found


def _text(item: Item) -> Written | None:
    value = value_of(item, _TEXT)
    return Written(clean(value.text), value.span) if isinstance(value, Written) else None


def _confidence(value: Written | str) -> float | None:
    """Returns a confidence in [0, 1]; None if it is none.

    A number over 10 is in percent. One over 1 and up to 10 may be of ten or in percent.
    """
    written = value.text.strip() if isinstance(value, Written) else value
    if written.lower() in ("null", "none"):
        return UNSTATED_CONFIDENCE
    match = _NUMBER.fullmatch(written)
    if match is None:
        return None
    number, percent = float(match.group(1)), bool(match.group(2))
    if percent or 10 < number <= 100:
        number /= 100
    return number if 0 <= number <= 1 else None


def _kind(value: Written | str | None) -> NegativeKind | None:
    """Returns the kind that a word, or the first known word of a phrase, stands for."""
    written = value.text if isinstance(value, Written) else ""
    words = re.findall(r"[a-z]+", written.lower())
    return next((kind for word in words if (kind := _kind_of(word)) is not None), None)


def _kind_of(word: str) -> NegativeKind | None:
    singular = word.removesuffix("s") if word != "class" else word
    return _KINDS.get(word) or _KINDS.get(singular) or _KINDS.get(word.removesuffix("ies") + "y")
