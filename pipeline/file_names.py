"""Names of files that others wrote: which belong to the data, how they compare, their order."""

from __future__ import annotations

import os
import re
import unicodedata

_FOREIGN = frozenset({"__macosx", "@eadir", "desktop.ini", "ehthumbs.db", "thumbs.db"})
"""What Windows, macOS and network drives leave in folders; names in lower case."""

_DIGITS = re.compile(r"([0-9]+)")


def is_foreign(name: str) -> bool:
    """Whether a name is of a hidden file, or of one that a system keeps for itself.

    macOS writes ``._00000.png`` beside ``00000.png`` on drives of another kind.
    """
    return name.startswith(".") or name.casefold() in _FOREIGN


def natural_order(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sort key of names: numbers in them count by value, so that frame_9 comes before frame_10."""
    parts = enumerate(_DIGITS.split(name))
    # By length, then as text: Python refuses to read numbers of thousands of digits.
    numbers = ((part.lstrip("0"), place % 2) for place, part in parts)
    return tuple((len(part) if number else 0, part) for part, number in numbers), name


def composed(name: str) -> str:
    """A name with letters and accents put together, which macOS takes apart in its folders."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name in the spelling by which two are compared: composed letters, suffix in lower case.

    macOS may give ``é`` as two characters, and cameras write ``.MP4`` and ``.JPG``.
    """
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return composed(stem) + suffix.lower()
