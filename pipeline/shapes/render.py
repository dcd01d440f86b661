"""Draws a scene and its exact masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.shapes.scene import COLOURS, HEIGHT, WIDTH, Pillar, Scene, SceneObject, Shot

_Y, _X = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32) + np.float32(0.5)


@dataclass(frozen=True)
class Rendered:
    """One frame and its truth.

    Attributes:
        image: uint8 RGB [H, W, 3].
        masks: bool [objects, H, W], what is seen of each object; disjoint.
        whole: int [objects], pixels that an object would show if nothing hid it.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    whole: NDArray[np.int64]


def render(scene: Scene, time: int) -> Rendered:
    """Draws the frame at ``time`` (0 <= time < scene.frames)."""
    shot, moment = scene.shot(time), scene.moment(time)
    canvas = _background(shot, time)
    masks = np.zeros((len(scene.objects), HEIGHT, WIDTH), np.bool_)
    whole = np.zeros(len(scene.objects), np.int64)
    far_to_near = sorted(range(len(scene.objects)), key=lambda i: -scene.objects[i].depth)
    for index in far_to_near:
        item, centre = scene.objects[index], scene.centre(index, time)
        window = _window(item, centre)
        if window is None:
            continue
        coverage, shade = _paint(item, moment, centre, window)
        colour = np.clip(np.array(COLOURS[item.colour]) + np.array(item.tint), 0, 1)
        alpha = coverage[..., None]
        canvas[window] = canvas[window] * (1 - alpha) + alpha * shade[..., None] * colour
        solid = coverage > 0.5
        masks[:, window[0], window[1]] &= ~solid
        masks[index, window[0], window[1]] = solid
        whole[index] = int(solid.sum())
    for pillar in shot.pillars:
        masks[:, :, _stand(pillar, canvas)] = False
    rng = np.random.default_rng((scene.seed, time))
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(0.02)
    return Rendered((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8), masks, whole)


def _stand(pillar: Pillar, canvas: NDArray[np.float32]) -> slice:
    """Draws a pillar, and returns its columns."""
    columns = slice(max(round(pillar.left), 0), min(round(pillar.left + pillar.width), WIDTH))
    across = np.linspace(-1, 1, columns.stop - columns.start, dtype=np.float32)
    canvas[:, columns] = (pillar.grey * (1 - 0.3 * across**2))[None, :, None]
    return columns


def _background(shot: Shot, time: int) -> NDArray[np.float32]:
    canvas = np.empty((HEIGHT, WIDTH, 3), np.float32)
    canvas[:] = shot.base
    for fx, fy, phase, drift, strength, hue in shot.waves:
        wave = strength * np.sin(fx * _X + fy * _Y + phase + drift * time)
        canvas += wave[..., None] * np.float32(0.6)
        canvas[..., int(hue)] += wave * np.float32(0.6)
    return canvas


def _window(item: SceneObject, centre: tuple[float, float]) -> tuple[slice, slice] | None:
    x, y = centre
    top, bottom = max(int(y - item.radius - 2), 0), min(int(y + item.radius + 3), HEIGHT)
    left, right = max(int(x - item.radius - 2), 0), min(int(x + item.radius + 3), WIDTH)
    if top >= bottom or left >= right:
        return None
    return slice(top, bottom), slice(left, right)


def _paint(
    item: SceneObject, moment: float, centre: tuple[float, float], window: tuple[slice, slice]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coverage in [0, 1] and shading of the object in its window."""
    x = _X[window] - np.float32(centre[0])
    y = _Y[window] - np.float32(centre[1])
    angle = item.angle + item.spin * moment
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = cos * x + sin * y, cos * y - sin * x
    coverage = np.clip(_inside_distance(item.shape, u, v, item.radius) + 0.5, 0, 1)
    shade = 0.95 - 0.16 * (x + y) / (2 * item.radius) + 0.05 * np.sin(u * 0.5) * np.sin(v * 0.5)
    return coverage.astype(np.float32), shade.astype(np.float32)


def _inside_distance(
    shape: str, u: NDArray[np.float32], v: NDArray[np.float32], radius: float
) -> NDArray[np.float32]:
    """Distance to the outline in pixels, positive inside; exact near the edges."""
    if shape == "circle":
        return np.asarray(radius * 0.92 - np.hypot(u, v), np.float32)
    if shape == "square":
        return np.asarray(radius * 0.78 - np.maximum(np.abs(u), np.abs(v)), np.float32)
    if shape == "cross":
        long, short = radius * 0.95, radius * 0.32
        across = np.minimum(long - np.abs(u), short - np.abs(v))
        along = np.minimum(short - np.abs(u), long - np.abs(v))
        return np.asarray(np.maximum(across, along), np.float32)
    points, inner = (3, None) if shape == "triangle" else (5, 0.45)
    sector = np.pi / points
    distance = np.hypot(u, v)
    folded = np.abs((np.arctan2(u, -v) + sector) % (2 * sector) - sector)  # 0 at a tip
    a, b = distance * np.cos(folded), distance * np.sin(folded)
    if inner is None:  # the side between two tips is straight
        return np.asarray(radius * np.cos(sector) - distance * np.cos(folded - sector), np.float32)
    tip = np.array([radius, 0.0])
    notch = radius * inner * np.array([np.cos(sector), np.sin(sector)])
    edge = notch - tip
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    if normal @ tip < 0:
        normal = -normal
    return np.asarray(normal @ tip - (normal[0] * a + normal[1] * b), np.float32)
