"""Reads the lists of a model's answer leniently: what is odd costs one item, never the answer.

An answer should be one JSON object with the lists ``positives`` and ``negatives``. Models write
text and code fences around it, drafts before it, trailing commas, single quotes, and lists that are
cut off. So the lists are looked for by their names, and each item is read alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAXIMUM_ANSWER = 65_536
"""Characters of an answer that are looked at."""

UNREADABLE = "item that cannot be read"
CUT_OFF = "item cut off at the end of the answer"

_NAME = re.compile(r"[\"']\s*(?:hard[_ ]?)?(positive|negative)s?\s*[\"']\s*:\s*", re.IGNORECASE)
_NOUN = re.compile(r"[\"']noun[\"']\s*:\s*([\"'])(.*?)(?<!\\)\1", re.IGNORECASE)
_THOUGHT_ENDS, _THOUGHT_BEGINS = "</think>", "<think>"
_GAP = re.compile(r"[\s,]*")
_SPACE = re.compile(r"\s*")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_KEY = re.compile(r"[A-Za-z_]+(?=\s*:)")
_PLAIN = re.compile(r"[^\s,\[\]{}\"']+")
_BAD_ESCAPE = re.compile(r"\\(?![\"\\/bfnrtu])")
_ENDS_VALUE = re.compile(r"\s*[,:}\]]")
_BRACKETS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class Written:
    """A string of an answer.

    Attributes:
        text: its value.
        span: the characters of the answer between its quotes.
    """

    text: str
    span: tuple[int, int]


Value = Written | str | None
"""A string; a plain value such as a number, as it is written; None for a list or an object."""

Item = Mapping[str, Value] | Written
"""An object with lower-case keys, or a string in its place."""


@dataclass
class Lists:
    """The items of one answer.

    Attributes:
        items: ``positive`` or ``negative`` -> what could be read, in order.
        not_lists: name -> what stands where its list should be.
        lost: reason -> how many items could not be read.
    """

    items: dict[str, list[Item]] = field(default_factory=dict)
    not_lists: dict[str, str] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return sum(map(len, self.items.values()))


class _OddError(Exception):
    """An item is not as expected."""


class _EndError(Exception):
    """The answer ends within an item."""


def read_lists(answer: str) -> Lists | None:
    """Returns the items of the last answer in a text that has any; None if it names no list.

    Drafts come before the answer: thoughts are left out, and a list whose name comes again begins
    another answer.
    """
    start, end = _without_thoughts(answer)
    found: list[Lists] = []
    names = list(_NAME.finditer(answer, start, end))
    for place, match in enumerate(names):
        name = match.group(1).lower()
        if not found or name in found[-1].items or name in found[-1].not_lists:
            found.append(Lists())
        bound = names[place + 1].start() if place + 1 < len(names) else end
        _read_list(answer, match.end(), bound, name, found[-1])
    full = [lists for lists in found if lists.count] or found
    return full[-1] if full else None


def read_noun(answer: str) -> str:
    """Returns the last value of the key ``noun`` in a text; empty without any."""
    found = list(_NOUN.finditer(answer, *_without_thoughts(answer)))
    return found[-1][2] if found else ""


def _without_thoughts(answer: str) -> tuple[int, int]:
    """Returns where an answer begins and ends. A chat template may have opened the thought."""
    last = answer.rfind(_THOUGHT_ENDS)
    start = last + len(_THOUGHT_ENDS) if last >= 0 else 0
    again = answer.find(_THOUGHT_BEGINS, start)
    end = again if again >= 0 else len(answer)
    return start, min(end, start + MAXIMUM_ANSWER)


def _read_list(text: str, at: int, end: int, name: str, into: Lists) -> None:
    """Reads the items of a list from its bracket on, up to ``end`` at most."""
    if text[at : at + 1] != "[":
        into.not_lists[name] = text[at : min(end, at + 60)]
        return
    items = into.items.setdefault(name, [])
    at = _after(_GAP, text, at + 1)
    while at < end and text[at] != "]":
        begins = at
        try:
            item, at = _item(text, at)
            items.append(item)
        except _OddError:
            into.lost[UNREADABLE] += 1
            at = text.find("{", begins + 1, end)
        except _EndError:
            into.lost[CUT_OFF] += 1
            at = text.find("{", begins + 1, end)
        if at < 0:
            return
        at = _after(_GAP, text, at)


def _item(text: str, at: int) -> tuple[Item, int]:
    if text[at] != "{":
        value, at = _value(text, at)
        if not isinstance(value, Written):
            raise _OddError
        if not _ENDS_VALUE.match(text, at):
            raise _EndError if not text[at:].strip() else _OddError
        return value, at
    item: dict[str, Value] = {}
    at = _after(_GAP, text, at + 1)
    while _at(text, at) != "}":
        key, at = _key(text, at)
        at = _after(_SPACE, text, at)
        if _at(text, at) != ":":
            raise _OddError
        item[key], at = _value(text, _after(_SPACE, text, at + 1))
        at = _after(_SPACE, text, at)
        if _at(text, at) not in ",}":
            raise _OddError
        at = _after(_GAP, text, at)
    return item, at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    bare = _KEY.match(text, at)
    if bare is not None:
        return bare.group().lower(), bare.end()
    if _at(text, at) not in "\"'":
        raise _OddError
    key, at = _string(text, at)
    return key.text.strip().lower(), at


def _value(text: str, at: int) -> tuple[Value, int]:
    first = _at(text, at)
    if first in "\"'":
        return _string(text, at)
    if first in _BRACKETS:
        return None, _after_brackets(text, at)
    plain = _PLAIN.match(text, at)
    if plain is None:
        raise _OddError
    return plain.group(), plain.end()


def _string(text: str, at: int) -> tuple[Written, int]:
    if text[at] == '"':
        match = _DOUBLE.match(text, at)
        if match is None:
            raise _EndError
        raw, end = match.group(1), match.end()
    else:
        end = _end_of_single(text, at + 1)
        raw = text[at + 1 : end - 1].replace("\\'", "'").replace('\\"', '"').replace('"', '\\"')
    try:
        value = json.loads('"' + _BAD_ESCAPE.sub("", raw) + '"', strict=False)
        value.encode()  # half of a letter beyond 16 bits is no text
    except ValueError as error:
        raise _OddError from error
    return Written(value, (at + 1, end - 1)), end


def _end_of_single(text: str, at: int) -> int:
    """Returns where a string in single quotes ends.

    Its first quote that is not an apostrophe within a word must be followed by what can follow a
    value. Any other is ambiguous.
    """
    while True:
        at = text.find("'", at)
        if at < 0:
            raise _EndError
        within = text[at - 1].isalpha() and text[at + 1 : at + 2].isalpha()
        if not within and text[at - 1] != "\\":
            break
        at += 1
    if not _ENDS_VALUE.match(text, at + 1):
        raise _EndError if not text[at + 1 :].strip() else _OddError
    return at + 1


def _after_brackets(text: str, at: int) -> int:
    """Returns where a list or an object ends that is not looked into."""
    closers: list[str] = []
    while True:
        letter = _at(text, at)
        if letter == '"':
            at = _string(text, at)[1]
            continue
        if letter in _BRACKETS:
            closers.append(_BRACKETS[letter])
        elif letter in "]}" and closers.pop() != letter:
            raise _OddError
        at += 1
        if not closers:
            return at


def _at(text: str, at: int) -> str:
    if at >= len(text):
        raise _EndError
    return text[at]


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def value_of(item: Item, keys: Sequence[str]) -> Value:
    """Returns the value of the first of these keys that an item has; None without one."""
    if isinstance(item, Written):
        return item if "text" in keys else None
    return next((item[key] for key in keys if key in item), None)
