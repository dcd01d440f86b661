"""What the demo captioner is taught: videos of ``shapes``, expressions, and the answers to write.

Letters: T frames of a video, c cells of a frame, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.shapes.language import (
    MOVEMENTS,
    View,
    hard_negatives,
    referring_expressions,
    sentences,
    view,
)
from pipeline.shapes.render import render
from pipeline.shapes.scene import COLOURS, MOTIONS, SHAPES, SIZES, SceneObject, sample_scene

FRAMES, ROWS, COLUMNS = 4, 6, 10
NEGATIVES = 8
_FULL = 0.3
"""Share of a cell from which on an object fills it."""


@dataclass(frozen=True)
class Lesson:
    """One training example: frames and an expression, and the answer to write.

    Attributes:
        images: T frames uint8 [H, W, 3].
        cells: int64 [T, c, 3], colour, shape and size in each cell; 0 for background.
        movements: int64 [T, c], the movement of what fills a cell; 0 for background.
        on_target: bool [T, c], the cells that the target fills.
        kind: of the expression, as ``pipeline.shapes.language.KINDS``.
        answer: JSON of the form that the stage asks for.
        names: (size, colour, shape) of the target.
    """

    images: tuple[NDArray[np.uint8], ...]
    cells: NDArray[np.int64]
    movements: NDArray[np.int64]
    on_target: NDArray[np.bool_]
    expression: str
    kind: str
    answer: str
    names: tuple[str, str, str]

    @property
    def first_positive(self) -> str:
        """The answer up to the end of its first positive."""
        return self.answer[: self.answer.index("}")]


def draw_lessons(rng: Generator, each: int = 2) -> list[Lesson]:
    """The lessons of a new video, up to ``each`` an object; they share its frames and cells."""
    while True:
        scene = sample_scene(rng)
        times = np.linspace(0, scene.frames - 1, FRAMES).round().astype(int)
        seen = view(scene)
        said = [item for item in referring_expressions(scene, rng, each) if seen.seen(item.target)]
        if said:
            break
    drawn = [render(scene, int(moment)) for moment in times]
    images = tuple(item.image for item in drawn)
    owners = np.stack([_owners(item.masks) for item in drawn])
    labels = np.array([(0, 0, 0, 0), *(_labels(item) for item in scene.objects)])[owners + 1]
    lessons = []
    for item in said:
        target = scene.objects[item.target]
        lessons.append(
            Lesson(
                images,
                labels[..., :3],
                labels[..., 3],
                owners == item.target,
                item.text,
                item.kind,
                write_answer(seen, item.target, rng),
                (target.size, target.colour, target.shape),
            )
        )
    return lessons


def write_answer(seen: View, target: int, rng: Generator) -> str:
    """The answer that is right for an object, as JSON of the form that the stage asks for."""
    item = seen.objects[target]
    size, colour, shape = item.size, item.colour, item.shape
    positives = [
        (f"the {size} {colour} {shape}", "0.95"),
        (f"a {shape} that is {size} and {colour}", "0.9"),
        (f"the {size} {shape} in {colour} colour", "0.9"),
        (f"the {colour} {shape} {MOVEMENTS[item.motion][0]}", "0.8"),
    ]
    found = sentences(seen, target, rng)
    named = [s.text for s in found["place"] if s.text.startswith(f"the {colour} {shape}")]
    named += [s.text for s in found["relation"] if s.text.startswith(f"the {colour} {shape}")]
    if named:
        positives.append((named[0], "0.75"))
    written = ", ".join(
        f'{{"text": "{text}", "confidence": {confidence}}}' for text, confidence in positives
    )
    negatives = ", ".join(
        f'{{"text": "{item.text}", "kind": "{item.kind}"}}'
        for item in hard_negatives(seen, target, NEGATIVES, rng)
    )
    return f'{{"positives": [{written}], "negatives": [{negatives}]}}'


def _labels(item: SceneObject) -> tuple[int, int, int, int]:
    return (
        1 + list(COLOURS).index(item.colour),
        1 + SHAPES.index(item.shape),
        1 + list(SIZES).index(item.size),
        1 + MOTIONS.index(item.motion),
    )


def _owners(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64 [c]: the object that fills each cell, -1 for none. ``masks`` is [objects, H, W]."""
    shares = F.adaptive_avg_pool2d(torch.from_numpy(masks.astype(np.float32)), (ROWS, COLUMNS))
    flat = shares.flatten(1).numpy()
    owners: NDArray[np.int64] = np.where(flat.max(0) > _FULL, flat.argmax(0), -1)
    return owners
