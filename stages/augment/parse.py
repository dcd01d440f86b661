"""From a model's answer to checked positives and negatives.

The answer is one JSON object, ``{"positives": [{"text", "confidence"}], "negatives": [{"text",
"kind"}]}``. Code fences, text around it, trailing commas and a truncated end are fixed
within limits. Any other structure is an error, so that the model is asked again. Texts that parse
but cannot be used (too long, duplicates, a negative that says the same as a positive) are left out
and counted.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from pipeline.errors import UnusableAnswerError
from pipeline.types import NEGATIVE_KINDS, Negative, NegativeKind
from pipeline.words import words_of

MAXIMUM_WORDS = 40
MAXIMUM_CHARACTERS = 300
MAXIMUM_ANSWER = 65_536
"""Characters of an answer that are looked at."""

_REPAIRS = 16
"""Places at which a truncated answer is cut and closed before it is given up."""

_ARTICLES = frozenset({"a", "an", "the"})
_FENCE = re.compile(r"```[A-Za-z]*\s*\n?(.*?)(?:```|\Z)", re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True)
class ParsedAnswer:
    """The parts of an answer that can be used.

    Attributes:
        positives: (text, confidence in [0, 1]) in the model's order, without the original.
        negatives: with their kinds, in the model's order.
        left_out: reason -> how many texts.
    """

    positives: tuple[tuple[str, float], ...]
    negatives: tuple[Negative, ...]
    left_out: dict[str, int] = field(default_factory=dict)


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
        UnusableAnswerError: no JSON object, or one of another structure; the message says where.
    """
    values = _load(answer)
    left_out: dict[str, int] = {}
    pairs = [_positive(item, place) for place, item in _items(values, "positives")]
    typed = [_negative(item, place) for place, item in _items(values, "negatives")]
    kept = _select_positives(pairs, original, positives, left_out)
    true_texts = [original, *(text for text, _ in kept)]
    return ParsedAnswer(
        tuple(kept), tuple(select_negatives(typed, true_texts, negatives, left_out)), left_out
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


def string_spans(answer: str) -> list[tuple[str, int, int]]:
    """Yields (text, start, end) for every JSON string in an answer.

    ``text`` is cleaned; ``start`` and ``end`` are the characters between its quotes, which lead to
    its tokens.
    """
    spans = []
    for match in _STRING.finditer(answer):
        try:
            value = json.loads(match.group(), strict=False)
        except json.JSONDecodeError:
            continue
        spans.append((clean(value), match.start() + 1, match.end() - 1))
    return spans


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


def _unfit(text: str) -> str | None:
    words = normalise(text)
    if not words:
        return "text without words"
    if len(text) > MAXIMUM_CHARACTERS or len(words_of(text)) > MAXIMUM_WORDS:
        return "text too long"
    return None


def _load(answer: str) -> dict[str, Any]:
    text = _THOUGHT.sub(" ", answer[:MAXIMUM_ANSWER])
    fenced = _FENCE.search(text)
    if fenced is not None and "{" in fenced.group(1):
        text = fenced.group(1)
    start = text.find("{")
    if start < 0:
        raise UnusableAnswerError(
            f"the answer holds no JSON object; expected one with the lists positives and"
            f" negatives; it begins {answer[:80]!r}"
        )
    text = text[start:]
    value = _decode(text)
    if value is None:
        value = next((v for v in map(_decode, _mended(text)) if v is not None), None)
    if value is None:
        raise UnusableAnswerError(
            f"the answer is not JSON and cannot be fixed; expected an object with the lists"
            f" positives and negatives; it begins {text[:80]!r}"
        )
    return {key.strip(): item for key, item in value.items()}


def _decode(text: str) -> dict[str, Any] | None:
    """Returns the JSON object that a text starts with; None if there is none."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, strict=False)
    try:
        value, _ = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _mended(text: str) -> Iterable[str]:
    """Yields possible readings of a broken text, most likely first.

    The first leaves out trailing commas. The others, of limited number, cut the text after one of
    the last whole values and close its brackets.
    """
    closers: list[str] = []
    cuts: list[tuple[int, str]] = []
    pieces: list[str] = []
    length = 0
    position = 0
    while position < len(text):
        character = text[position]
        piece = character
        if character == '"':
            match = _STRING.match(text, position)
            if match is None:
                break
            piece = match.group()
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
        elif character in "}]":
            if not closers or closers.pop() != character:
                break
        elif character == "," and re.match(r"\s*[}\]]", text[position + 1 : position + 64]):
            piece = " "
        pieces.append(piece)
        length += len(piece)
        position += len(character if piece == " " else piece)
        if character in "}]":
            cuts.append((length, "".join(reversed(closers))))
            if not closers:
                break
    fixed = "".join(pieces)
    for end, tail in list(reversed(cuts))[:_REPAIRS]:
        yield fixed[:end] + tail


def _items(values: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    """The list of that name as (place, object); a truncated answer may lack the second list."""
    items = values.get(name, [] if name == "negatives" else None)
    if not isinstance(items, list):
        raise UnusableAnswerError(f"{name} is {_shown(items)}; expected a list of objects")
    result = []
    for index, item in enumerate(items):
        place = f"{name}[{index}]"
        if not isinstance(item, dict):
            raise UnusableAnswerError(f"{place} is {_shown(item)}; expected an object")
        result.append((place, {key.strip(): value for key, value in item.items()}))
    return result


def _text(item: dict[str, Any], place: str) -> str:
    text = item.get("text")
    if not isinstance(text, str):
        raise UnusableAnswerError(f"{place}.text is {_shown(text)}; expected a string")
    return clean(text)


def _positive(item: dict[str, Any], place: str) -> tuple[str, float]:
    confidence = item.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise UnusableAnswerError(f"{place}.confidence is {_shown(confidence)}; expected a number")
    if not 0 <= confidence <= 1:
        raise UnusableAnswerError(f"{place}.confidence is {confidence}; expected 0 to 1")
    return _text(item, place), float(confidence)


def _negative(item: dict[str, Any], place: str) -> Negative:
    kind = item.get("kind")
    word = kind.strip().lower() if isinstance(kind, str) else kind
    if word not in NEGATIVE_KINDS:
        expected = ", ".join(NEGATIVE_KINDS)
        raise UnusableAnswerError(f"{place}.kind is {_shown(kind)}; expected one of {expected}")
    return Negative(_text(item, place), cast(NegativeKind, word))


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]
