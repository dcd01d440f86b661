"""How many objects a sentence names, by rules for English.

A sentence names several if its subject has a number or a word such as 'both', is a group, is in the
plural, or has a verb in the plural. Where the rules find nothing, it names one: most referring
expressions do, and a second object in a mask costs more than a missing one.
"""

from __future__ import annotations

import re
from typing import Final

MANY: Final = 1000
"""Of a sentence that names several objects without their number."""

_NUMBERS = {
    "two": 2,
    "both": 2,
    "pair": 2,
    "couple": 2,
    "twins": 2,
    "three": 3,
    "trio": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}
_MANY = {"all", "several", "many", "these", "those", "multiple", "various"}
_GROUPS = {
    "group", "crowd", "herd", "flock", "bunch", "pack", "swarm", "team", "line", "row", "pair",
    "couple", "trio",
}  # fmt: skip
"""Of several objects if 'of' follows."""
_ONE = {"a", "an", "one", "another", "this", "that", "each", "every", "my", "his", "her"}
_PLURALS = {"people", "men", "women", "children", "geese", "mice", "oxen", "they"}
"""Words in the plural without an -s."""
_ONE_IN_S = ("ss", "us", "is", "as")
_ONE_OBJECT = {
    "glasses", "scissors", "trousers", "pants", "shorts", "jeans", "goggles", "binoculars", "tongs",
    "pliers", "headphones", "series", "species", "lens", "tennis", "chess", "hers", "his", "its",
    "always", "sometimes", "afterwards", "downwards", "upwards",
}  # fmt: skip
"""Words in -s of one object."""

_VERBS = (
    "starts|stands|walks|moves|jumps|bounces|appears|runs|sits|flies|rolls|climbs|eats|falls|turns"
    "|swims|crawls|lies|lays|plays|looks|comes|seems|gets|takes|makes|tries|rides|drives|holds"
    "|keeps|stays|wears|is|was|has|does|goes|are|were|have|do|can"
)
_OTHER_ENDS = (
    "that|which|who|whose|where|while|when|as|with|without|in|on|at|to|from|near|next|behind|beside"
    "|under|over|above|below|by|for|of|and|between|among|along|across|around|through|into|onto"
    "|toward|towards"
)
SUBJECT_ENDS = re.compile(rf"\b(?:{_VERBS}|{_OTHER_ENDS}|\w+ing)\b|[,;.]", re.IGNORECASE)
"""What ends the subject, which comes first in a referring expression."""

_PLURAL_VERB = re.compile(r"^\s*(?:(?:that|which|who)\s+)?(?:are|were|have|do)\b", re.IGNORECASE)
_SINGULAR_VERB = re.compile(r"^\s*(?:(?:that|which|who)\s+)?(?:is|was|has|does)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z][a-z'-]*", re.IGNORECASE)
_DIGITS = re.compile(r"^\s*(?:the\s+|these\s+|those\s+)?([2-9]|1\d)\s+[a-z]", re.IGNORECASE)


def targets_named(text: str) -> int:
    """Returns the number of objects that a sentence names: 1, a number above it, or ``MANY``."""
    digits = _DIGITS.match(text)
    if digits:
        return int(digits[1])
    end = SUBJECT_ENDS.search(text)
    subject, rest = (text, "") if end is None else (text[: end.start()], text[end.start() :])
    words = [word.lower() for word in _WORD.findall(subject)]
    if not words:
        return 1
    group = bool(_GROUPS & set(words)) and rest[:3].lower() == "of "
    if group and _one_object(rest):
        return 1
    for word in words:
        if word in _NUMBERS and (word not in _GROUPS or group):
            return _NUMBERS[word]
    if group:
        return MANY
    if words[0] in _ONE or _SINGULAR_VERB.match(rest):
        return 1
    if _MANY & set(words):
        return MANY
    if _is_one_thing(words[-1]):
        return 1
    return MANY if _PLURAL_VERB.match(rest) or _plural(words[-1]) else 1


def _plural(noun: str) -> bool:
    if noun in _PLURALS:
        return True
    return "'" not in noun and len(noun) > 3 and noun.endswith("s") and not noun.endswith(_ONE_IN_S)


def _one_object(rest: str) -> bool:
    """Whether what follows a word such as 'pair' is a thing of two parts, as glasses are."""
    end = SUBJECT_ENDS.search(rest, 3)
    words = _WORD.findall(rest[3:] if end is None else rest[3 : end.start()])
    return bool(words) and _is_one_thing(words[-1].lower())


def _is_one_thing(noun: str) -> bool:
    return noun in _ONE_OBJECT or noun.endswith("glasses")
