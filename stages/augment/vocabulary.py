"""The words that the lexicon swaps and rewords: general English, and the shapes' own.

Longer phrases shadow the words inside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.types import NegativeKind


@dataclass(frozen=True)
class Group:
    """Phrases that replace each other. Every swap makes the sentence untrue.

    Attributes:
        kind: of the negatives that a swap makes.
        members: phrases; opposites are next to each other.
    """

    kind: NegativeKind
    members: tuple[str, ...]


def _group(kind: NegativeKind, members: str) -> Group:
    return Group(kind, tuple(part.strip() for part in members.split("|")))


# fmt: off
_MOVING = (
    "moving", "going", "heading", "walking", "running", "facing", "looking", "turning", "flying",
    "swimming", "riding", "driving", "jumping", "crawling", "sliding", "drifting", "rolling",
    "moves", "goes", "heads", "walks", "runs", "faces", "looks", "turns", "flies", "swims",
    "rides", "drives", "jumps", "crawls", "slides",
)
# fmt: on

# Longer phrases are matched first and shadow the words inside them.
GROUPS: tuple[Group, ...] = (
    *(_group("action", f"{verb} left|{verb} right|{verb} up|{verb} down") for verb in _MOVING),
    *(
        _group("action", f"{verb} to the left|{verb} to the right|{verb} upward|{verb} downward")
        for verb in _MOVING
    ),
    _group("action", "that does not move|that turns around itself|that moves to the left"),
    _group("action", "staying in place|rotating|going left|going right"),
    _group("relation", "higher than|lower than"),
    _group("relation", "in the upper part|in the lower part"),
    _group("relation", "that is topmost|that is lowest"),
    _group("action", "moving forward|moving backward"),
    _group("relation", "to the left of|to the right of|above|below"),
    _group("relation", "left of|right of"),
    _group("relation", "on the left side of|on the right side of"),
    _group("relation", "on the left side|on the right side"),
    _group("relation", "on the far left|on the far right"),
    _group("relation", "on the left|on the right|in the middle|at the top|at the bottom"),
    _group("relation", "to the left|to the right"),
    _group("relation", "in the center|in the corner"),
    _group("relation", "in the centre|in the corner"),
    _group("relation", "in front of|behind"),
    _group("relation", "in the front|in the back"),
    _group("relation", "at the front|at the back"),
    _group("relation", "in the foreground|in the background"),
    _group("relation", "on top of|under"),
    _group("relation", "leftmost|rightmost|topmost|bottommost"),
    _group("relation", "closest|farthest"),
    _group("relation", "nearest|furthest"),
    _group("relation", "over|underneath"),
    _group("relation", "inside|outside"),
    _group("relation", "near|far from"),
    _group("relation", "top|bottom"),
    _group("relation", "upper|lower"),
    _group("relation", "front|rear"),
    _group("relation", "first|second|third|last"),
    _group("relation", "left|right"),
    _group("attribute", "red|green|blue|yellow|purple|orange|white|black"),
    _group("attribute", "brown|gray|pink|white"),
    _group("attribute", "grey|brown|black|white"),
    _group("attribute", "small|large"),
    _group("attribute", "little|big"),
    _group("attribute", "tiny|huge"),
    _group("attribute", "smaller|larger"),
    _group("attribute", "smallest|largest"),
    _group("attribute", "biggest|smallest"),
    _group("attribute", "tall|short"),
    _group("attribute", "long|short"),
    _group("attribute", "young|old"),
    _group("attribute", "dark|light"),
    _group("attribute", "striped|plain"),
    _group("attribute", "thin|thick"),
    _group("action", "moving up|moving down|moving left|moving right|standing still|spinning"),
    _group("action", "standing|sitting|walking|running|lying"),
    _group("action", "jumping|crouching"),
    _group("action", "moving|standing still"),
    _group("action", "stationary|moving"),
    _group("action", "riding|pushing"),
    _group("action", "eating|playing"),
    _group("action", "flying|swimming"),
    _group("action", "holding|throwing"),
    _group("action", "climbing|falling"),
    _group("action", "turning|staying"),
    _group("category", "circle|square|triangle|star|cross"),
    _group("category", "man|woman"),
    _group("category", "boy|girl"),
    _group("category", "person|dog"),
    _group("category", "dog|cat|horse|sheep"),
    _group("category", "cow|horse"),
    _group("category", "bird|fish"),
    _group("category", "car|truck|bus|motorcycle|bicycle"),
    _group("category", "bike|car"),
    _group("category", "surfboard|skateboard"),
    _group("category", "shirt|jacket"),
    _group("category", "lion|tiger"),
    _group("category", "zebra|giraffe"),
    _group("category", "duck|rabbit"),
    _group("category", "panda|monkey"),
)

REWORDINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("to the left of", ("left of", "on the left side of")),
    ("to the right of", ("right of", "on the right side of")),
    ("on the left side of", ("to the left of",)),
    ("on the right side of", ("to the right of",)),
    ("on the left side", ("on the left",)),
    ("on the right side", ("on the right",)),
    ("on the left", ("on the left side", "at the left")),
    ("on the right", ("on the right side", "at the right")),
    ("at the top", ("near the top", "in the upper part")),
    ("at the bottom", ("near the bottom", "in the lower part")),
    ("in the middle", ("in the center", "at the center")),
    ("in the center", ("in the middle",)),
    ("in front of", ("before",)),
    ("leftmost", ("furthest left",)),
    ("rightmost", ("furthest right",)),
    ("above", ("over", "higher than")),
    ("below", ("under", "lower than")),
    ("standing still", ("not moving", "staying in place")),
    ("spinning", ("rotating", "turning around")),
    *((f"moving {way}", (f"going {way}", f"heading {way}")) for way in ("left", "right")),
    ("moves to the left", ("goes to the left", "moves left")),
    ("moves to the right", ("goes to the right", "moves right")),
    ("moves upward", ("goes upward", "moves up")),
    ("moves downward", ("goes downward", "moves down")),
    ("going up", ("moving up",)),
    ("going down", ("moving down",)),
    ("going left", ("moving left",)),
    ("going right", ("moving right",)),
    ("does not move", ("stays in place", "stands still")),
    ("staying in place", ("standing still", "not moving")),
    ("turns around itself", ("spins", "rotates")),
    ("rotating", ("spinning", "turning around")),
    ("higher than", ("above",)),
    ("lower than", ("below",)),
    ("in the upper part", ("at the top",)),
    ("in the lower part", ("at the bottom",)),
    ("left of", ("to the left of",)),
    ("right of", ("to the right of",)),
    ("moving up", ("going up", "heading upward")),
    ("moving down", ("going down", "heading downward")),
    ("sitting", ("seated",)),
    ("small", ("little",)),
    ("large", ("big",)),
    ("little", ("small",)),
    ("big", ("large",)),
    ("gray", ("grey",)),
    ("grey", ("gray",)),
    ("woman", ("lady",)),
    ("man", ("guy",)),
    ("bicycle", ("bike",)),
    ("motorcycle", ("motorbike",)),
)
