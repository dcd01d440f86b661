"""Checks on the sentences of a data set."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.words import words_of
from storage.datasets.numbers import is_number

MAX_WORDS = 128
"""The published text encoders take 256 tokens and would cut a longer sentence without a word;
the longest expression of Ref-YouTube-VOS has 25 words."""


MAX_CHARACTERS = 1000
"""Words of a thousand letters are no words, and cost as many tokens."""


def checked_sentence(text: object, source: Path, what: str) -> str:
    """The sentence, stripped.

    Args:
        text: as the file gives it.
        source: the file, for the message.
        what: which expression it is, for the message.

    Raises:
        InputError: it is not text, is empty, or has more than MAX_WORDS words or MAX_CHARACTERS
            characters.
    """
    expected = (
        f"a sentence of 1 to {MAX_WORDS} words and at most {MAX_CHARACTERS} characters; where words"
        " have no spaces between them, every letter counts as one"
    )
    remedy = "fix the expression, or take it out"
    if not isinstance(text, str):
        raise InputError(source, f"{what} is {type(text).__name__}, not text", expected, remedy)
    words = sum(word.isprintable() or any(map(str.isprintable, word)) for word in words_of(text))
    if words == 0:
        raise InputError(source, f"{what} is empty", expected, remedy)
    if words > MAX_WORDS:
        raise InputError(source, f"{what} has {words} words", expected, remedy)
    if len(text) > MAX_CHARACTERS:
        raise InputError(source, f"{what} has {len(text)} characters", expected, remedy)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"{what} holds half a character (a lone surrogate)"
        raise InputError(source, found, expected, remedy) from error
    return text.strip()


def expression_order(name: str) -> tuple[bool, int, str]:
    """Sort key of expression ids: numbers by value and first, other ids as text."""
    number = is_number(name)
    return (not number, int(name) if number else 0, name)
