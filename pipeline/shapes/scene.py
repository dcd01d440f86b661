"""The content of a shapes video: objects of a shape, colour and size that move on straight paths.

Coordinates are pixels, x to the right and y down, in a frame of ``HEIGHT`` x ``WIDTH``. An object
that leaves on one side comes back on the other, so that its direction never changes and some
frames do not hold it. Hard scenes (``sample_hard_scene``) test tracks: they are long, two objects
that look alike cross, pillars hide objects for long, and shots are cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def centre(self, time: float, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
        """Centre (x, y) in pixels, its start moved by ``shift``; outside the frame while away."""
        dx, dy = _DIRECTION[self.motion]
        x = self.start[0] + shift[0] + dx * self.speed * time
        y = self.start[1] + shift[1] + dy * self.speed * time
        return _wrap(x, WIDTH, self.radius, self.gap), _wrap(y, HEIGHT, self.radius, self.gap)


@dataclass(frozen=True)
class Pillar:
    """An upright beam in front of all objects, as high as the frame. No sentence speaks of it.

    Attributes:
        left: x of its left edge, pixels.
        width: pixels.
        grey: its brightness, in [0, 1].
    """

    left: float
    width: float
    grey: float

    def hides(self, x: float) -> bool:
        return self.left <= x < self.left + self.width


@dataclass(frozen=True)
class Shot:
    """A part of a video without a cut.

    Attributes:
        first: its first frame.
        ahead: frames by which the objects are farther on their paths than the number of the frame.
        shift: x and y, pixels by which the objects are moved.
        waves: float32 [n, 6], the background's gratings: frequency x, y, phase, drift, strength,
            hue.
        base: the background's mean colour.
        pillars: what hides objects.
    """

    waves: NDArray[np.float32]
    base: tuple[float, float, float]
    first: int = 0
    ahead: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    pillars: tuple[Pillar, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A video before it is drawn.

    Attributes:
        frames: T.
        objects: two to five. No two have one size, colour and shape, except in a hard scene.
        shots: in order of time; the first begins at frame 0.
        seed: of the noise.
    """

    frames: int
    objects: tuple[SceneObject, ...]
    shots: tuple[Shot, ...]
    seed: int

    def shot(self, frame: int) -> Shot:
        """The shot that a frame belongs to."""
        return next(shot for shot in reversed(self.shots) if shot.first <= frame)

    def moment(self, frame: int) -> float:
        """The time at which the objects are in a frame."""
        return frame + self.shot(frame).ahead

    def centre(self, index: int, frame: int) -> tuple[float, float]:
        """Centre (x, y) of an object in a frame, in pixels."""
        return self.objects[index].centre(self.moment(frame), self.shot(frame).shift)


def sample_scene(rng: Generator) -> Scene:
    """Draws a scene; its statistics follow Ref-YouTube-VOS (4 to 36 frames, mean 27)."""
    count = int(rng.choice([2, 3, 4, 5], p=[0.3, 0.35, 0.22, 0.13]))
    frames = int(np.clip(round(36 - rng.gamma(1.6, 5.5)), 4, 36))
    objects: list[SceneObject] = []
    while len(objects) < count:
        candidate = _sample_object(rng, objects, depth=len(objects))
        if all(candidate.name != other.name for other in objects):
            objects.append(candidate)
    waves, base = _background(rng)
    return Scene(frames, tuple(objects), (Shot(waves, base),), int(rng.integers(2**31)))


HARD_FRAMES = 100
"""Frames of a hard scene."""


def sample_hard_scene(rng: Generator) -> Scene:
    """Draws a hard scene: look-alikes that cross, long occlusions, exits and returns, cuts.

    The first two objects have the same size, colour and shape. They move towards each other on one
    line, so only movement, place or relation tell them apart. Every object that moves leaves the
    frame for long. Each of two or three shots has a pillar and a background of its own, and shows
    the objects at another part of their paths.
    """
    objects = list(_look_alikes(rng))
    count = int(rng.choice([3, 4]))
    while len(objects) < count:
        candidate = _sample_object(rng, objects, depth=len(objects))
        if all(candidate.name != other.name for other in objects):
            objects.append(replace(candidate, gap=float(rng.uniform(60, 160))))
    cuts = sorted(int(cut) for cut in rng.choice(np.arange(25, 76), rng.integers(1, 3), False))
    shots = []
    for first in (0, *cuts):
        waves, base = _background(rng)
        pillar = Pillar(
            left=float(rng.uniform(0.2, 0.6) * WIDTH),
            width=float(rng.uniform(40, 70)),
            grey=float(rng.uniform(0.2, 0.8)),
        )
        ahead = float(rng.uniform(15, 60)) if first else 0.0
        shift = (float(rng.uniform(-40, 40)), float(rng.uniform(-20, 20))) if first else (0.0, 0.0)
        shots.append(Shot(waves, base, first, ahead, shift, (pillar,)))
    return Scene(HARD_FRAMES, tuple(objects), tuple(shots), int(rng.integers(2**31)))


def _look_alikes(rng: Generator) -> tuple[SceneObject, SceneObject]:
    """Two objects that look alike and move towards each other on one line."""
    one = _sample_object(rng, [], depth=0)
    along = bool(rng.random() < 0.7)
    motions = ("right", "left") if along else ("down", "up")
    extent, across = (WIDTH, HEIGHT) if along else (HEIGHT, WIDTH)
    line = rng.uniform(one.radius, across - one.radius)
    made = []
    for depth, (motion, place) in enumerate(zip(motions, (0.15, 0.85), strict=True)):
        lane = float(np.clip(line + rng.uniform(-6, 6), one.radius, across - one.radius))
        start = (place * extent, lane) if along else (lane, place * extent)
        made.append(
            replace(
                one,
                motion=motion,
                start=start,
                speed=float(rng.uniform(2.5, 5.0)),
                gap=float(rng.uniform(60, 160)),
                spin=0.0,
                depth=depth,
            )
        )
    return made[0], made[1]


def _background(rng: Generator) -> tuple[NDArray[np.float32], tuple[float, float, float]]:
    """Gratings and mean colour of a background."""
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
    return waves, (red, green, blue)


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
