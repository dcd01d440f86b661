"""Movements in the picture: which one a sentence names, by rules for English."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

CLEAR: Final = 0.03
"""Speed of a clear movement, in diagonals of the object's box per frame."""


class Movement(Enum):
    """A movement in the picture; the value is its direction (x, y), y down."""

    LEFT = (-1, 0)
    RIGHT = (1, 0)
    UP = (0, -1)
    DOWN = (0, 1)
    STILL = (0, 0)


_WORDS: Final = {
    "left": Movement.LEFT,
    "leftward": Movement.LEFT,
    "leftwards": Movement.LEFT,
    "right": Movement.RIGHT,
    "rightward": Movement.RIGHT,
    "rightwards": Movement.RIGHT,
    "up": Movement.UP,
    "upward": Movement.UP,
    "upwards": Movement.UP,
    "down": Movement.DOWN,
    "downward": Movement.DOWN,
    "downwards": Movement.DOWN,
}
_SIDES: Final = "left|right|top|bottom"
_TO: Final = _WORDS | {"top": Movement.UP, "bottom": Movement.DOWN}
_VERB: Final = (
    r"(?:mov|go|goes|gone|went|walk|run|ran|driv|rid|fly|flies|flew|swim|crawl|roll|slid|head"
    r"|travel|fall|fell|climb|ris|jump|swing|jog|march|cycl|skat|sail|float|drift|dash|danc)"
    r"\w*"
)
_ADVERBS: Final = r"(?:(?:slowly|quickly|fast|straight|further|over|off|back) )*"
_TOWARDS: Final = re.compile(
    rf"\b{_VERB} {_ADVERBS}(?:(?:to|towards?) )?(?:the )?({'|'.join(_WORDS)})\b(?! of\b)"
)
_FROM: Final = re.compile(rf"\b(?:from )?(?:the )?(?:{_SIDES}) to (?:the )?({_SIDES})\b")
_ALONG: Final = re.compile(r"\b(?:up|down) (?:the|a|an|his|her|its|this|that)\b")
_UPWARDS: Final = re.compile(r"\b(?:climb|fall|fell|ris|jump)\w* ")
_STILL: Final = re.compile(
    r"\b(?:(?:stand|sit|stay|remain|li|ly|keep|kept|stood|sat)\w* (?:completely |perfectly )?still"
    r"|(?:not|never|n't|without) (?:been )?mov\w+|motionless|stationary|parked"
    r"|(?:stay|remain)\w* in (?:its |the same |one |his |her )?(?:place|position|spot))\b"
)


def movement_named(text: str) -> Movement | None:
    """Returns the movement that a sentence names; None if it names none, or more than one.

    A place is no movement: 'walking on the left' is none, and 'walking to the left' is one. Nor is
    a way, as in 'driving down the road'.
    """
    said = " ".join(text.lower().replace("’", "'").replace("n't", " n't").split())
    found = set()
    for match in _FROM.finditer(said):
        found.add(_TO[match[1]])
    rest = _FROM.sub(" ", said)
    for match in _TOWARDS.finditer(rest):
        vertical = _ALONG.match(rest, match.start(1))
        if vertical is None or _UPWARDS.match(match[0]):
            found.add(_WORDS[match[1]])
    if _STILL.search(rest):
        found.add(Movement.STILL)
    return found.pop() if len(found) == 1 else None
