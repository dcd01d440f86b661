"""Captions for training the demo grounder: sentences about one frame and what they are true of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.shapes.language import (
    MOVEMENTS,
    PLACES,
    RELATIONS,
    View,
    open_sentence,
    partial_names,
    sentences,
)
from pipeline.shapes.scene import COLOURS, SHAPES, SIZES, SceneObject


@dataclass(frozen=True)
class Phrase:
    """A sentence and the objects of the frame that it is true of; none for a negative."""

    text: str
    targets: frozenset[int]


def frame_phrases(seen: View, visible: frozenset[int], count: int, rng: Generator) -> list[Phrase]:
    """Draws ``count`` sentences about one frame, about a third of them true of nothing in it.

    Args:
        seen: the frame's view.
        visible: objects that show enough of themselves to be found.
    """
    drawn: list[Phrase] = []
    while len(drawn) < count:
        if visible and rng.random() < 0.68:
            drawn.append(_true_phrase(seen, visible, rng))
        else:
            drawn.append(_false_phrase(seen, visible, rng))
    return drawn


def name_phrases(seen: View, visible: frozenset[int], count: int, rng: Generator) -> list[Phrase]:
    """As ``frame_phrases``, but only names: no place, motion or relation."""
    drawn: list[Phrase] = []
    while len(drawn) < count:
        if visible and rng.random() < 0.65:
            item = seen.objects[int(rng.choice(sorted(visible)))]
            name = str(rng.choice([*partial_names(item), item.colour, item.name, item.name]))
        else:
            name = _false_name(seen, visible, rng)
        drawn.append(Phrase(open_sentence(name, rng), _named(seen, visible, name)))
    return drawn


def _true_phrase(seen: View, visible: frozenset[int], rng: Generator) -> Phrase:
    target = int(rng.choice(sorted(visible)))
    item = seen.objects[target]
    draw = rng.random()
    if draw < 0.2:  # by a name that others may share; a movement that one frame cannot show
        name = str(rng.choice([*partial_names(item), item.name, item.name]))
        fits = _named(seen, visible, name)
        if rng.random() < 0.7:
            name = f"{name} {rng.choice(_tails(MOVEMENTS))}"
        return Phrase(open_sentence(name, rng), fits)
    if seen.seen(target):
        found = sentences(seen, target, rng)
        kinds = [kind for kind, said in found.items() if said and kind != "appearance"]
        if kinds and draw < 0.62:
            options = found[str(rng.choice(kinds))]
            return Phrase(options[int(rng.integers(len(options)))].text, frozenset({target}))
        options = found["appearance"]
        text = options[int(rng.integers(len(options)))].text
        return Phrase(text, _named(seen, visible, item.name) | {target})
    return Phrase(open_sentence(item.name, rng), frozenset({target}))


def _false_phrase(seen: View, visible: frozenset[int], rng: Generator) -> Phrase:
    name = _false_name(seen, visible, rng)
    draw = rng.random()
    if draw < 0.3:
        name = f"{name} {rng.choice(_tails(PLACES) + _tails(MOVEMENTS))}"
    elif draw < 0.45:
        anchor = f"{rng.choice(list(COLOURS))} {rng.choice(SHAPES)}"
        if visible and rng.random() < 0.7:
            item = seen.objects[int(rng.choice(sorted(visible)))]
            anchor = f"{item.colour} {item.shape}"
        name = f"{name} {rng.choice(_tails(RELATIONS))} the {anchor}"
    return Phrase(open_sentence(name, rng), frozenset())


def _false_name(seen: View, visible: frozenset[int], rng: Generator) -> str:
    """A name that fits no object, most often one attribute away from one that is there."""
    while True:
        size, colour, shape = (str(rng.choice(list(group))) for group in (SIZES, COLOURS, SHAPES))
        if visible and rng.random() < 0.8:
            item = seen.objects[int(rng.choice(sorted(visible)))]
            changed = int(rng.integers(3))
            size = size if changed == 0 else item.size
            colour = colour if changed == 1 else item.colour
            shape = shape if changed == 2 else item.shape
        forms = (f"{size} {colour} {shape}", f"{colour} {shape}", f"{size} {shape}", shape)
        name = str(rng.choice(forms, p=[0.5, 0.25, 0.15, 0.1]))
        if not _named(seen, frozenset(range(len(seen.objects))), name):
            return name


def _named(seen: View, among: frozenset[int], name: str) -> frozenset[int]:
    return frozenset(index for index in among if name in _names(seen.objects[index]))


def _names(item: SceneObject) -> tuple[str, ...]:
    return (*partial_names(item), item.name, item.colour)


def _tails(groups: dict[str, tuple[str, ...]]) -> list[str]:
    return [tail for tails in groups.values() for tail in tails]


def visible_objects(seen_pixels: np.ndarray, whole_pixels: np.ndarray) -> frozenset[int]:
    """Objects of which at least 24 pixels, and a fifth of their area, are visible."""
    enough = (seen_pixels >= 24) & (seen_pixels >= 0.2 * whole_pixels)
    return frozenset(int(index) for index in np.flatnonzero(enough))
