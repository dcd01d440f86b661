"""Reads the numbers in a judge's answer, leniently, and says how likely the answer was.

Answers come as a number, as a list, as JSON, in code fences, in a sentence, or after thoughts. What
names no number of the question and does not say 'none' is not guessed at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

NONE = "0"
"""Stands for none of the objects in an answer."""

LONGEST = 4096
"""Characters at the end of an answer that are looked at."""

_NAME = r"(?:(?:objects?|tracks?|numbers?)\s*)?"
_BETWEEN = r"(?:,\s*(?:and\s+)?|and|&|;|/|\s)"
_GOES_ON = rf"(?!\s*(?:(?:or|to|and|[-–,;&/.])\s*)*{_NAME}#?\d)"
_LIST = rf"[\[({{]?\s*{_NAME}#?\d+(?:\s*{_BETWEEN}\s*{_NAME}#?\d+)*{_GOES_ON}\s*[\])}}]?"
_NOTHING = (
    r"(?:none(?:\s+of\s+(?:them|these|the\s+(?:marked\s+)?objects))?|no\s+objects?|nothing|neither"
    r"|null|\[\s*\]|\{\s*\})"
)
_ANSWER = rf"(?P<numbers>{_LIST})|(?P<nothing>{_NOTHING})"
_NAMES = r"(?:answers?|objects?|numbers?|tracks?|targets?|choices?|chosen)"
_WHOLE = re.compile(rf"(?:the\s+)?(?:{_NAMES}\s*)*(?:is|are)?\s*[:#=]?\s*(?:{_ANSWER})", re.I)
_TOLD = re.compile(
    rf"(?:answer|choice|chosen|target)s?[\"']?\s*(?:is|are|:|=|→)+\s*[\"']?(?:the\s+)?"
    rf"(?:{_NAMES}\s*#?\s*)*(?:{_ANSWER})",
    re.I,
)
_NAMED = re.compile(r"\b(?:object|number|track)\s*#?\s*(\d+)", re.I)
_HEDGED = re.compile(r"\bnot\b|n't\b|\b(?:or|except|instead|rather|maybe|unless|neither)\b", re.I)
_KEYED = re.compile(rf"[\"']{_NAMES}(?:_ids?)?[\"']\s*:\s*[\"']?(?:{_ANSWER})", re.I)
_DECORATION = " \t\n\r`*_.\"'!"
_FENCE = re.compile(r"```(?:json|text)?")
_THOUGHT_ENDS = "</think>"


@dataclass(frozen=True)
class Reading:
    """What an answer says.

    Attributes:
        chosen: numbers that it names, ascending; empty for none.
        at: the character of the answer at which its first number, or word for none, begins.
        end: the one after the last.
    """

    chosen: tuple[int, ...]
    at: int
    end: int


def read_answer(answer: str, numbers: Collection[int]) -> Reading | None:
    """Returns what an answer says; None if it cannot be read.

    Args:
        numbers: that an answer may name.
    """
    start = max(0, len(answer) - LONGEST)
    thought = answer.rfind(_THOUGHT_ENDS)
    if thought >= 0:
        start = max(start, thought + len(_THOUGHT_ENDS))
    text = _FENCE.sub(lambda match: " " * len(match[0]), answer[start:])
    match = _found(text)
    if match is None:
        return None
    name = "numbers" if match.group("numbers") is not None else "nothing"
    named = sorted({int(number) for number in re.findall(r"\d+", match.group(name))})
    named = [number for number in named if number or len(named) > 1]
    if not set(named) <= set(numbers):
        return None
    first = re.search(r"\d|[a-z\[{]", match.group(name), re.I) if name == "nothing" else None
    first = first or re.search(r"\d", match.group(name))
    begin = match.start(name) + (first.start() if first else 0)
    return Reading(tuple(named), start + begin, start + match.end(name))


def _found(text: str) -> re.Match[str] | None:
    """Returns the part of an answer that gives the numbers, if there is one and no other."""
    left = len(text) - len(text.lstrip(_DECORATION))
    right = len(text.rstrip(_DECORATION))
    if whole := _WHOLE.fullmatch(text, left, max(left, right)):
        return whole
    for pattern in (_KEYED, _TOLD):
        if told := list(pattern.finditer(text)):
            return told[-1]
    named = list(_NAMED.finditer(text))
    if _HEDGED.search(text) or len({match[1] for match in named}) != 1:
        return None
    return re.compile(_ANSWER, re.I).match(text, named[0].start(1), named[0].end(1))


def probability_of(
    reading: Reading,
    numbers: Collection[int],
    alternatives: Callable[[int], tuple[str, Mapping[str, float]] | None],
    likelihood: Callable[[tuple[int, int]], float | None],
) -> float | None:
    """Returns the probability of an answer, in [0, 1]; None if it is not known.

    That of a single number, or of 0, is its share among the possible ones, by the tokens that the
    model could have written in its place. Where these are not known, and for several numbers, it is
    the likelihood of the answer's own tokens.

    Args:
        numbers: that were possible, beside 0.
        alternatives: returns, for a character of the answer, the token there and the natural log of
            the probabilities of tokens that could stand in its place.
        likelihood: of the characters between two of the answer.
    """
    if len(reading.chosen) <= 1:
        found = alternatives(reading.at)
        share = None if found is None else _share(*found, {NONE, *map(str, numbers)})
        if share is not None:
            return share
    return likelihood((reading.at, reading.end))


def _share(written: str, logs: Mapping[str, float], options: Collection[str]) -> float | None:
    """Returns the share of a token among the tokens that are options; None if it is no option."""
    chances: dict[str, float] = {}
    for token, log in logs.items():
        option = token.strip(_DECORATION)
        if option in options and log <= 0:
            chances[option] = chances.get(option, 0.0) + math.exp(log)
    mine, total = chances.get(written.strip(_DECORATION), 0.0), sum(chances.values())
    return mine / total if mine > 0 else None


def shuffled(tracks: Sequence[int], seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the numbers of tracks in the first and in the second question.

    The first are in an order that depends on the seed. In the second, every track has another
    number. A single track has the numbers 1 and 2.
    """
    count = max(len(tracks), 2)
    # A linear congruential generator, whose numbers no library's release changes.
    order, state = list(range(1, count + 1)), seed % (1 << 64)
    for place in range(count - 1, 0, -1):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        other = (state >> 33) % (place + 1)
        order[place], order[other] = order[other], order[place]
    first = tuple(order[: len(tracks)])
    return first, tuple((number - 1 + count // 2) % count + 1 for number in first)
