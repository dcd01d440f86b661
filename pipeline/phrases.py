"""The noun phrase of a referring expression: what sort of object it names, by rules for English.

'a person wearing a red shirt riding a skateboard' names a person. Colours, sizes, places, numbers
and what the object does are left out: they choose among objects of the sort.
"""

from __future__ import annotations

import re

from pipeline.plural import SUBJECT_ENDS

_WORD = re.compile(r"[a-z][a-z'-]*|\d+", re.IGNORECASE)
_ING_NOUNS = {
    "building", "king", "ring", "string", "wing", "painting", "railing", "ceiling", "swing",
    "thing", "sling", "sibling", "duckling", "awning", "clothing", "earring", "spring", "wedding",
}  # fmt: skip
_NO_NOUN = {
    "a", "an", "the", "this", "that", "these", "those", "one", "ones", "two", "three", "four",
    "five", "six", "seven", "eight", "nine", "ten", "both", "all", "each", "every", "several",
    "many", "another", "other", "some", "any", "its", "his", "her", "their", "my", "your", "our",
    "it", "he",
    "she", "they", "him", "them", "there", "first", "second", "third", "fourth", "fifth", "last",
    "next", "left", "right", "middle", "center", "centre", "central", "top", "bottom", "upper",
    "lower", "front", "back", "rear", "leftmost", "rightmost", "left-most", "right-most", "far",
    "near", "nearest", "closest", "furthest", "farthest", "outer", "inner", "bigger", "smaller",
    "big", "small", "large", "larger", "largest", "biggest", "smallest", "little", "tiny", "huge",
    "tall", "taller", "tallest", "short", "shorter", "shortest", "long", "longer", "longest",
    "thin",
    "fat", "wide", "young", "younger", "youngest", "old", "older", "oldest", "elderly", "adult",
    "white", "black", "red", "green", "blue", "yellow", "orange", "brown", "grey", "gray", "pink",
    "purple", "golden", "gold", "silver", "beige", "tan", "cyan", "magenta", "dark", "light",
    "bright", "colorful", "colourful", "striped", "spotted", "blond", "blonde", "same", "only",
    "main", "single", "whole", "entire", "visible", "very", "most", "more", "slightly", "mostly",
    "male", "female", "empty", "dirty", "clean", "new", "fast", "slow", "quick", "still", "busy",
}  # fmt: skip
"""Words that name no sort of object."""
_LY_NOUNS = {"family", "fly", "butterfly", "dragonfly", "lily", "belly"}
_ED_NOUNS = {"bed", "shed", "seed", "weed", "sled", "moped", "steed", "hundred", "red"}
_GROUPS = {
    "group", "pair", "couple", "crowd", "herd", "flock", "bunch", "pack", "row", "line", "team",
    "family",
}  # fmt: skip
_PEOPLE = {"someone", "somebody", "anyone", "everyone"}
_OF = re.compile(r"^\s*of\s+", re.IGNORECASE)


def noun_phrase(text: str) -> str | None:
    """Returns the sort of object that an expression names, such as ``tennis player``.

    Returns:
        None if the rules find no noun, as in 'the one on the left'.
    """
    rest = text.lower()
    for _ in range(4):
        subject, end, rest = _subject(rest)
        words = [word for word in _WORD.findall(subject) if not word.isdigit()]
        nouns = _nouns(words)
        if nouns and nouns[-1] in _GROUPS and (of := _OF.match(end + rest)):
            rest = (end + rest)[of.end() :]
            continue
        if nouns:
            return "person" if nouns[-1] in _PEOPLE else " ".join(nouns[-2:])
        # 'the running dog', 'a black and white cow': the noun is still to come.
        if end != "and" and not end.endswith("ing"):
            return None
    return None


def _subject(text: str) -> tuple[str, str, str]:
    """Splits a text at the first word that ends its subject: before it, the word, what follows."""
    for found in SUBJECT_ENDS.finditer(text):
        if found[0] not in _ING_NOUNS:
            return text[: found.start()], found[0], text[found.end() :]
    return text, "", ""


def _nouns(words: list[str]) -> list[str]:
    """Returns the last words of a subject that can be nouns; without participles before them."""
    kept: list[str] = []
    for word in words:
        participle = word.endswith("ed") and word not in _ED_NOUNS
        if participle and kept:
            break
        adverb = word.endswith("ly") and word not in _LY_NOUNS
        if word in _NO_NOUN or participle or adverb or word.endswith(("'s", "s'")):
            kept = []
            continue
        kept.append(word)
    return kept
