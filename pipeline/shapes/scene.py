"""The content of a shapes video: objects of a shape, colour and size that move on straight paths.

Coordinates are pixels, x to the right and y down, in a frame of ``HEIGHT`` x ``WIDTH``. An object
that leaves on one side comes back on the other, so that its direction never changes and some
frames do not hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

HEIGHT, WIDTH = 144, 256
FRAME_STEP = 5
"""Frame names count by five, as in Ref-YouTube-VOS."""

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.12),
    "green": (0.10, 0.68, 0.20),
    "blue": (0.13, 0.28, 0.90),
    "yellow": (0.96, 0.88, 0.12),
    "purple": (0.56, 0.16, 0.72),
    "orange": (0.98, 0.52, 0.06),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.06),
}
SIZES: dict[str, tuple[float, float]] = {"small": (14.0, 18.0), "large": (25.0, 32.0)}
"""Radius of the circumscribed circle in pixels, smallest and largest."""

MOTIONS = ("up", "down", "left", "right", "still")
_DIRECTION = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0), "still": (0, 0)}


@dataclass(frozen=True)
class SceneObject:
    """One object and its path.

    Attributes:
        radius: of the circumscribed circle, pixels.
        start: centre (x, y) at time 0.
        speed: pixels a frame along ``motion``.
        gap: extra pixels outside the frame before it comes back.
        angle: orientation at time 0, radians; ``spin``: radians a frame.
        tint: offset of the colour, [3].
        depth: objects of smaller depth hide those of greater.
    """

    shape: str
    colour: str
    size: str
    radius: float
    motion: str
    start: tuple[float, float]
    speed: float
    gap: float
    angle: float
    spin: float
    tint: tuple[float, float, float]
    depth: int

    @property
    def name(self) -> str:
        return f"{self.size} {self.colour} {self.shape}"

    @property
    def spinning(self) -> bool:
        return self.spin != 0.0

    def centre(self, time: float) -> tuple[float, float]:
        """Centre (x, y) in pixels; outside the frame while the object is away."""
        dx, dy = _DIRECTION[self.motion]
        x = self.start[0] + dx * self.speed * time
        y = self.start[1] + dy * self.speed * time
        return _wrap(x, WIDTH, self.radius, self.gap), _wrap(y, HEIGHT, self.radius, self.gap)


@dataclass(frozen=True)
class Scene:
    """A video before it is drawn.

    Attributes:
        frames: T.
        objects: two to five, no two of one size, colour and shape.
        waves: float32 [n, 6], the background's gratings: frequency x, y, phase, drift, strength,
            hue.
        base: the background's mean colour.
        seed: of the noise.
    """

    frames: int
    objects: tuple[SceneObject, ...]
    waves: NDArray[np.float32]
    base: tuple[float, float, float]
    seed: int


def sample_scene(rng: Generator) -> Scene:
    """Draws a scene; its statistics follow Ref-YouTube-VOS (4 to 36 frames, mean 27)."""
    count = int(rng.choice([2, 3, 4, 5], p=[0.3, 0.35, 0.22, 0.13]))
    frames = int(np.clip(round(36 - rng.gamma(1.6, 5.5)), 4, 36))
    objects: list[SceneObject] = []
    while len(objects) < count:
        candidate = _sample_object(rng, objects, depth=len(objects))
        if all(candidate.name != other.name for other in objects):
            objects.append(candidate)
    waves = np.stack(
        [
            rng.normal(0, 0.06, 5),
            rng.normal(0, 0.06, 5),
            rng.uniform(0, 2 * np.pi, 5),
            rng.normal(0, 0.25, 5),
            rng.uniform(0.02, 0.09, 5),
            rng.uniform(0, 3, 5),
        ],
        axis=1,
    ).astype(np.float32)
    grey = rng.uniform(0.3, 0.65)
    red, green, blue = (float(value) for value in grey + rng.normal(0, 0.05, 3))
    return Scene(frames, tuple(objects), waves, (red, green, blue), int(rng.integers(2**31)))


def _sample_object(rng: Generator, others: list[SceneObject], depth: int) -> SceneObject:
    shape = str(rng.choice(SHAPES))
    colour = str(rng.choice(list(COLOURS)))
    if others and rng.random() < 0.45:  # objects that only one attribute tells apart
        twin = others[int(rng.integers(len(others)))]
        shape, colour = (twin.shape, colour) if rng.random() < 0.75 else (shape, twin.colour)
    size = str(rng.choice(list(SIZES)))
    motion = str(rng.choice(MOTIONS, p=[0.19, 0.19, 0.19, 0.19, 0.24]))
    radius = float(rng.uniform(*SIZES[size]))
    spins = rng.random() < 0.2 and shape != "circle"
    spin = float(rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)) if spins else 0.0
    red, green, blue = (float(value) for value in rng.normal(0, 0.03, 3))
    return SceneObject(
        shape=shape,
        colour=colour,
        size=size,
        radius=radius,
        motion=motion,
        start=_free_start(rng, radius, others),
        speed=float(rng.uniform(2.5, 6.5)) if motion != "still" else 0.0,
        gap=float(rng.uniform(0, 40)),
        angle=float(rng.uniform(-0.5, 0.5)),
        spin=spin,
        tint=(red, green, blue),
        depth=depth,
    )


def _free_start(rng: Generator, radius: float, others: list[SceneObject]) -> tuple[float, float]:
    """The start, of a few draws, that overlaps other objects least."""

    def draw() -> tuple[float, float]:
        return (
            float(rng.uniform(radius, WIDTH - radius)),
            float(rng.uniform(radius, HEIGHT - radius)),
        )

    def clearance(point: tuple[float, float]) -> float:
        return min(
            (
                float(np.hypot(point[0] - other.start[0], point[1] - other.start[1]))
                - radius
                - other.radius
                for other in others
            ),
            default=0.0,
        )

    return max((draw() for _ in range(6)), key=clearance)


def _wrap(position: float, extent: int, radius: float, gap: float) -> float:
    """Keeps a coordinate on a loop that reaches ``radius + gap / 2`` beyond both edges."""
    reach = radius + gap / 2
    return (position + reach) % (extent + 2 * reach) - reach
