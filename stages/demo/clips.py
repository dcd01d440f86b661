"""Clips of ``shapes`` for training the demo tracker: frames, and what to follow in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pipeline.geometry import masks_to_boxes
from pipeline.shapes.render import Rendered, render
from pipeline.shapes.scene import Scene, sample_hard_scene, sample_scene
from stages.demo.phrases import visible_objects

LEAST_PIXELS = 24
"""An object is in a frame if it shows so many; if it shows some, but fewer, nobody says."""


@dataclass(frozen=True)
class Clip:
    """Frames of a scene, and objects that are visible in every frame with a prompt.

    Attributes:
        images: uint8 [T, H, W, 3].
        masks: bool [objects, T, H, W].
        boxes: position of a frame -> float32 [objects, 4], xyxy pixels. The first frame has them.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: dict[int, NDArray[np.float32]]


def draw_clip(rng: Generator, frames: int, objects: int, asked: Sequence[int] = (0,)) -> Clip:
    """Draws a clip of a new scene, with at most so many objects.

    One scene in four is hard. Half of the clips run backwards. In one of ten the first frame is any
    frame of the scene: what follows is then as after a long occlusion, or another shot.

    Args:
        asked: the frames with boxes, the first one among them.
    """
    while True:
        scene = sample_hard_scene(rng) if rng.random() < 0.25 else sample_scene(rng)
        if scene.frames < frames:
            continue
        drawn = [render(scene, moment) for moment in _moments(rng, scene, frames)]
        visible = frozenset.intersection(*(_visible(drawn[at]) for at in asked))
        chosen = rng.permutation(sorted(visible))[:objects]
        if not len(chosen):
            continue
        masks = np.stack([item.masks[chosen] for item in drawn], axis=1)
        boxes = {at: _shaken(rng, masks_to_boxes(masks[:, at])) for at in asked}
        return Clip(np.stack([item.image for item in drawn]), masks, boxes)


def _moments(rng: Generator, scene: Scene, frames: int) -> list[int]:
    widest = min(3, (scene.frames - 1) // (frames - 1)) if frames > 1 else 1
    step = int(rng.integers(1, widest + 1))
    first = int(rng.integers(scene.frames - (frames - 1) * step))
    moments = [first + step * at for at in range(frames)]
    if rng.random() < 0.5:
        moments.reverse()
    if frames > 1 and rng.random() < 0.1:
        moments[0] = int(rng.integers(scene.frames))
    return moments


def _visible(drawn: Rendered) -> frozenset[int]:
    return visible_objects(drawn.masks.sum((1, 2)), drawn.whole)


def _shaken(rng: Generator, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    shake = float(rng.choice([0.0, 0.03, 0.07]))
    return (boxes + rng.normal(0, shake, boxes.shape) * extent).astype(np.float32)
