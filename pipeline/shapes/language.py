"""Sentences about a scene: true of one object and of no other, or close and false.

Kinds: ``appearance`` needs one frame and the object alone; ``place`` and ``relation`` need the
other objects; ``motion`` needs more than one frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.shapes.scene import COLOURS, HEIGHT, SHAPES, SIZES, WIDTH, Scene, SceneObject
from pipeline.types import Negative, NegativeKind

KINDS = ("appearance", "place", "motion", "relation")

PLACES: dict[str, tuple[str, ...]] = {
    "left": ("on the left", "on the left side", "that is leftmost"),
    "right": ("on the right", "on the right side", "that is rightmost"),
    "top": ("at the top", "in the upper part", "that is topmost"),
    "bottom": ("at the bottom", "in the lower part", "that is lowest"),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "higher than"),
    "below": ("below", "lower than"),
}
MOVEMENTS: dict[str, tuple[str, ...]] = {
    "up": ("moving up", "that moves upward", "going up"),
    "down": ("moving down", "that moves downward", "going down"),
    "left": ("moving left", "that moves to the left", "going left"),
    "right": ("moving right", "that moves to the right", "going right"),
    "still": ("standing still", "that does not move", "staying in place"),
    "spin": ("spinning", "that turns around itself", "rotating"),
}
_OPENINGS = ("a {}", "the {}", "a {} seen in the video", "the {} in the scene")
_OPENING_WEIGHTS = (0.35, 0.4, 0.12, 0.13)
_CLEAR = 6.0
"""Pixels by which a place or relation must hold to be said."""
_COMPARED = 0.6
"""It must also hold, by any distance, in more than this share of the frames that show others."""


@dataclass(frozen=True)
class Said:
    """A sentence.

    Attributes:
        target: index of the only object that it is true of.
        kind: one of ``KINDS``.
        text: the sentence.
    """

    target: int
    kind: str
    text: str


@dataclass(frozen=True)
class View:
    """What can be seen of a scene in some frames.

    Attributes:
        objects: the scene's.
        centres: float [T, objects, 2], x and y; NaN where an object is not seen.
        moving: False for a single frame, in which no motion can be seen.
    """

    objects: tuple[SceneObject, ...]
    centres: NDArray[np.float64]
    moving: bool

    def seen(self, index: int) -> bool:
        return bool(np.isfinite(self.centres[:, index, 0]).any())


def view(scene: Scene, times: Iterable[int] | None = None) -> View:
    """Object centres over the frames asked for, all of them by default."""
    chosen = list(range(scene.frames)) if times is None else list(times)
    indices = range(len(scene.objects))
    centres = np.array([[scene.centre(index, time) for index in indices] for time in chosen])
    inside = (
        (centres[..., 0] > 0)
        & (centres[..., 0] < WIDTH)
        & (centres[..., 1] > 0)
        & (centres[..., 1] < HEIGHT)
    )
    for row, time in enumerate(chosen):
        for pillar in scene.shot(time).pillars:
            inside[row] &= [not pillar.hides(x) for x in centres[row, :, 0]]
    centres = np.where(inside[..., None], centres, np.nan)
    return View(scene.objects, centres, moving=len(chosen) > 1)


def appearance_texts(item: SceneObject, rng: Generator) -> str:
    """Names an object by size, colour and shape."""
    size, colour, shape = item.size, item.colour, item.shape
    forms = (
        f"{size} {colour} {shape}",
        f"{size} {colour} {shape}",
        f"{colour} {shape} that is {size}",
        f"{size} {shape} that is {colour}",
        f"{shape} that is {size} and {colour}",
        f"{size} {shape} in {colour} colour",
    )
    return open_sentence(str(rng.choice(forms)), rng)


def open_sentence(phrase: str, rng: Generator) -> str:
    """Puts an article, or more, around a noun phrase."""
    sentence = str(rng.choice(_OPENINGS, p=_OPENING_WEIGHTS)).format(phrase)
    return sentence.replace("a orange", "an orange", 1) if sentence[0] == "a" else sentence


def partial_names(item: SceneObject) -> tuple[str, ...]:
    """Shorter names: the shape, with at most one other attribute."""
    size, colour, shape = item.size, item.colour, item.shape
    return (shape, f"{colour} {shape}", f"{size} {shape}")


def sentences(seen: View, target: int, rng: Generator) -> dict[str, list[Said]]:
    """True sentences for one object, by kind, each true of no other object that is seen.

    Args:
        seen: what is visible.
        target: index of an object that is seen.
    """
    found: dict[str, list[Said]] = {kind: [] for kind in KINDS}
    item = seen.objects[target]
    names = partial_names(item)
    if _rivals(seen, target, item.name):
        names = (*names, item.name)  # it needs more than its name, even its whole name
    else:
        found["appearance"].append(Said(target, "appearance", appearance_texts(item, rng)))
    for name in names:
        rivals = _rivals(seen, target, name)
        if not rivals:
            found["appearance"].append(Said(target, "appearance", open_sentence(name, rng)))
        for kind, tails in (
            ("place", _places(seen, target, rivals)),
            ("motion", _movements(seen, target, rivals)),
            ("relation", _relations(seen, target, rivals)),
        ):
            texts = (open_sentence(f"{name} {rng.choice(tail)}", rng) for tail in tails)
            found[kind].extend(Said(target, kind, text) for text in texts)
    return found


def referring_expressions(scene: Scene, rng: Generator, each: int = 2) -> list[Said]:
    """``each`` sentences an object, of different kinds where it can be, as annotators write."""
    seen = view(scene)
    chosen: list[Said] = []
    for target in range(len(scene.objects)):
        if not seen.seen(target):
            continue
        found = sentences(seen, target, rng)
        kinds = [kind for kind in KINDS if found[kind]]
        weights = np.array([0.6 if kind == "appearance" else 1.0 for kind in kinds])
        count = min(each, len(kinds))
        for kind in rng.choice(kinds, count, replace=False, p=weights / weights.sum()):
            options = found[str(kind)]
            chosen.append(options[int(rng.integers(len(options)))])
    return chosen


def hard_negatives(seen: View, target: int, count: int, rng: Generator) -> list[Negative]:
    """Up to ``count`` sentences that are not true of the target, other objects' first."""
    item = seen.objects[target]
    drawn: list[tuple[str, NegativeKind]] = []
    for other in range(len(seen.objects)):
        if other == target or not seen.seen(other):
            continue
        rival = seen.objects[other]
        kind: NegativeKind = "category" if rival.shape != item.shape else "attribute"
        drawn.append((f"the {rival.name}", kind))
    drawn.append((f"the {item.size} {_other(COLOURS, item.colour, rng)} {item.shape}", "attribute"))
    drawn.append((f"the {item.size} {item.colour} {_other(SHAPES, item.shape, rng)}", "category"))
    drawn.append((f"the {_other(SIZES, item.size, rng)} {item.colour} {item.shape}", "attribute"))
    if seen.moving:
        false_motion = _other([key for key in MOVEMENTS if key != "spin"], item.motion, rng)
        drawn.append((f"the {item.colour} {item.shape} {MOVEMENTS[false_motion][0]}", "action"))
    for side, tails in PLACES.items():
        if _extreme(seen, target, side) is False:
            drawn.append((f"the {item.colour} {item.shape} {tails[0]}", "relation"))
    known: set[str] = set()
    result = []
    for text, kind in drawn:
        if text not in known and text != f"the {item.name}":
            known.add(text)
            result.append(Negative(text, kind))
    return result[:count]


def vocabulary() -> list[str]:
    """Every word that sentences of this module can contain, sorted."""
    words = {"a", "an", "the", "seen", "in", "video", "scene", "that", "is", "and", "colour"}
    words |= {*SHAPES, *COLOURS, *SIZES}
    for group in (PLACES, RELATIONS, MOVEMENTS):
        for tails in group.values():
            words.update(word for tail in tails for word in tail.split())
    return sorted(words)


def _other(options: Iterable[str], but: str, rng: Generator) -> str:
    return str(rng.choice([option for option in options if option != but]))


def _rivals(seen: View, target: int, name: str) -> list[int]:
    """The other visible objects that the name fits too."""
    return [
        other
        for other, item in enumerate(seen.objects)
        if other != target and seen.seen(other) and name in (*partial_names(item), item.name)
    ]


def _places(seen: View, target: int, rivals: Sequence[int]) -> list[tuple[str, ...]]:
    if not rivals and len(seen.objects) < 2:
        return []
    against = list(rivals) or [i for i in range(len(seen.objects)) if i != target]
    found = []
    for side, tails in PLACES.items():
        share = _compared(seen, target, against, side)
        if share <= _COMPARED or not _beyond(seen, target, against, side, 0.9):
            continue
        if all(_compared(seen, rival, [target, *rivals], side) < share for rival in rivals):
            found.append(tails)
    return found


def _extreme(seen: View, target: int, side: str) -> bool | None:
    """Whether the target is on that side of all others; None if only in some frames."""
    others = [i for i in range(len(seen.objects)) if i != target and seen.seen(i)]
    if _beyond(seen, target, others, side, 0.9):
        return True
    return None if _beyond(seen, target, others, side, 0.2) else False


def _compared(seen: View, target: int, others: Sequence[int], side: str) -> float:
    """Of the frames that show the target and another, the share in which it lies to that side of
    all others; 0 without such frames."""
    axis, sign = (0 if side in ("left", "right") else 1), (-1 if side in ("left", "top") else 1)
    own = sign * seen.centres[:, target, axis]
    rest = sign * seen.centres[:, [other for other in others if other != target], axis]
    both = np.isfinite(own) & np.isfinite(rest).any(axis=1)
    if not both.any():
        return 0.0
    return float((own[both] > np.nanmax(rest[both], axis=1)).mean())


def _beyond(seen: View, target: int, others: Sequence[int], side: str, share: float) -> bool:
    """Whether the target lies clearly to that side of every other object, in that share of the
    frames that show it (at least one of them with another)."""
    axis, sign = (0 if side in ("left", "right") else 1), (-1 if side in ("left", "top") else 1)
    own = seen.centres[:, target, axis]
    frames = np.isfinite(own)
    if not frames.any() or not others:
        return False
    rest = sign * seen.centres[frames][:, list(others), axis]
    shown = np.isfinite(rest).any(axis=1)
    if not shown.any():
        return False
    farthest = np.nanmax(np.where(np.isfinite(rest), rest, -np.inf), axis=1)
    return bool((sign * own[frames] > farthest + _CLEAR).mean() >= share)


def _movements(seen: View, target: int, rivals: Sequence[int]) -> list[tuple[str, ...]]:
    if not seen.moving:
        return []
    item = seen.objects[target]
    others = [seen.objects[i] for i in rivals]
    tails = []
    if all(other.motion != item.motion for other in others):
        tails.append(MOVEMENTS[item.motion])
    if item.spinning and not any(other.spinning for other in others):
        tails.append(MOVEMENTS["spin"])
    return tails


def _relations(seen: View, target: int, rivals: Sequence[int]) -> list[tuple[str, ...]]:
    """Relations to another object, named so that it is known, that hold for the target alone."""
    tails = []
    for anchor, item in enumerate(seen.objects):
        if anchor == target or not seen.seen(anchor) or anchor in rivals:
            continue
        name = f"{item.colour} {item.shape}"
        if _rivals(seen, anchor, name):
            continue
        for relation, words in RELATIONS.items():
            side = {"above": "top", "below": "bottom"}.get(relation, relation)
            if _compared(seen, target, [anchor], side) <= _COMPARED:
                continue
            if _beyond(seen, target, [anchor], side, 0.9) and not any(
                _beyond(seen, rival, [anchor], side, 0.3) for rival in rivals
            ):
                tails.append(tuple(f"{word} the {name}" for word in words))
    return tails
