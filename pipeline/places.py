"""Places in the frame: which one a sentence names, by rules for English."""

from __future__ import annotations

import re
from typing import Final

Direction = tuple[int, int]
"""x and y, each -1, 0 or 1, y down."""

_SIDES: Final[dict[str, Direction]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "upper": (0, -1),
    "highest": (0, -1),
    "bottom": (0, 1),
    "lower": (0, 1),
    "lowest": (0, 1),
}
_SIDE: Final = r"(?:left|right|top|bottom|upper|lower)"
_OF_THE_FRAME: Final = r"(?! of\b(?! the (?:frame|image|picture|screen|video|scene|view)\b))"
"""'on the left of the cat' is a relation of two objects, and no place in the frame."""
_OF_THE_BODY: Final = (
    r"(?![ -](?:hand|arm|foot|feet|leg|eye|ear|shoulder|wing|paw)s?\b(?! (?:side|corner)))"
)
_TO: Final = r"(?<!\bto the )(?<!\btowards the )(?<!\btoward the )(?<!\bfrom the )"
"""'moving to the left side' is a movement."""
_PLACES: Final = re.compile(
    rf"\b(?:on|at|in) the (?:far |very |extreme |outer )*({_SIDE}(?:[ -]{_SIDE})?)\b"
    rf"{_OF_THE_BODY}{_OF_THE_FRAME}"
    rf"|{_TO}\b({_SIDE}(?:[ -]{_SIDE})?)(?:[ -]hand)? (?:side|corner|edge|half|part)\b"
    rf"{_OF_THE_FRAME}"
    rf"|\b({_SIDE})[ -]?most\b"
    rf"|\b(?:furthest|farthest|far)(?: to the)? ({_SIDE})\b{_OF_THE_FRAME}"
    rf"|\b(?:first|1st) (?:\w+ ){{0,2}}from (?:the )?({_SIDE})\b{_OF_THE_FRAME}"
    r"|\b(lowest|highest)\b"
    rf"|^(?:the |a |an )?({_SIDE}(?:[ -]{_SIDE})?){_OF_THE_BODY} (?!to\b|of\b|and\b|or\b)[a-z]"
)


def place_named(text: str) -> Direction | None:
    """Returns where in the frame a sentence says that its target is, such as (-1, 0) for 'on the
    left' and (-1, 1) for 'in the bottom left corner'; None if it names no place.

    Sides that contradict each other cancel out.
    """
    said = " ".join(text.lower().split())
    found = {
        word
        for match in _PLACES.finditer(said)
        for side in filter(None, match.groups())
        for word in re.findall(r"[a-z]+", side)
    }
    x = {_SIDES[word][0] for word in found} - {0}
    y = {_SIDES[word][1] for word in found} - {0}
    place = (x.pop() if len(x) == 1 else 0, y.pop() if len(y) == 1 else 0)
    return None if place == (0, 0) else place
