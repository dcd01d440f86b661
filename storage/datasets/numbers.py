"""Numbers that a data set gives as text."""

from __future__ import annotations

MAX_DIGITS = 200
"""Python refuses to read thousands of digits, with a ValueError of its own."""


def is_number(text: str) -> bool:
    """Whether a text is a whole number in ASCII digits, of at most MAX_DIGITS."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
