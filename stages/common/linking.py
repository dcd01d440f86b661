"""Links the instances of a video's frames into tracks by profile and by motion.

What tells the instances of a video apart is their profile, such as how well each sentence of the
video fits. Instances of successive frames are linked by profile and by motion; tracks that broke,
as in an occlusion or at a cut, are joined if their profiles and their headings agree and no frame
has both.

Letters: T frames, I instances of a frame, D numbers of a profile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.config import TrackConfig
from pipeline.movement import CLEAR
from stages.common.boxes import pairwise_giou

LAST_STEPS = 9
"""Steps that the expected movement of a track is the median of."""

FEWEST_STEPS = 3
"""Steps that a track needs to have a heading."""


@dataclass(frozen=True)
class FrameInstances:
    """The instances of one frame.

    Attributes:
        profile: float64 [I, D].
        box: float64 [I, 4], xyxy in pixels, or in other units that are small beside an object.
    """

    profile: NDArray[np.float64]
    box: NDArray[np.float64]


@dataclass
class _Track:
    """A track while it grows.

    Attributes:
        frames: positions of its frames, ascending.
        instances: its instance in each of them.
        box: float64 [4], the last one.
        velocity: float64 [2], pixels per frame of the box's centre: the median of its last steps,
            because a box that is partly hidden moves otherwise than its object.
        total: float64 [D], sum of its centred profiles.
        steps: of the box's centre, pixels per frame, one for each frame but the first.
        heading: float64 [2], direction of its median step; its length is 1 for a clear movement,
            down to 0 for none.
    """

    frames: list[int]
    instances: list[int]
    box: NDArray[np.float64]
    total: NDArray[np.float64]
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    steps: list[NDArray[np.float64]] = field(default_factory=list)
    heading: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def predicted(self, frame: int) -> NDArray[np.float64]:
        """The box expected in a frame, at constant velocity."""
        return self.box + np.tile(self.velocity * (frame - self.frames[-1]), 2)

    def add(
        self, frame: int, instance: int, box: NDArray[np.float64], profile: NDArray[np.float64]
    ) -> None:
        change = (box - self.box) / (frame - self.frames[-1])
        self.steps.append((change[:2] + change[2:]) / 2)
        self.velocity = np.median(self.steps[-LAST_STEPS:], axis=0)
        self.frames.append(frame)
        self.instances.append(instance)
        self.box = box
        self.total = self.total + profile

    def set_heading(self) -> None:
        """Finds the heading from all steps."""
        if len(self.steps) < FEWEST_STEPS:
            return
        step = np.median(self.steps, axis=0)
        speed = float(np.hypot(*step))
        size = float(np.hypot(*(self.box[2:] - self.box[:2])))
        if speed > 0:
            self.heading = step / speed * min(1.0, speed / (CLEAR * max(size, 1.0)))


def link(
    frames: Sequence[FrameInstances], config: TrackConfig, cuts: Collection[int] = ()
) -> list[NDArray[np.int32]]:
    """Links the instances of T frames.

    Args:
        frames: the instances of each frame; all profiles have the same D.
        config: thresholds.
        cuts: first frames of shots. No place is expected across a cut, so tracks end there, and are
            joined if they agree.

    Returns:
        The track of every instance, int32 [I] a frame; tracks are numbered by their first frame.
    """
    profiles = np.concatenate([item.profile for item in frames] or [np.zeros((0, 0))])
    # What fits everything does not tell instances apart.
    centre = profiles.mean(axis=0) if len(profiles) else np.zeros(profiles.shape[1])
    tracks = _joined(_linked(frames, centre, config, frozenset(cuts)), len(frames), config)
    number = [np.full(len(item.profile), -1, np.int32) for item in frames]
    for row, track in enumerate(sorted(tracks, key=lambda item: item.frames[0])):
        for frame, instance in zip(track.frames, track.instances, strict=True):
            number[frame][instance] = row
    return number


def _linked(
    frames: Sequence[FrameInstances],
    centre: NDArray[np.float64],
    config: TrackConfig,
    cuts: Collection[int],
) -> list[_Track]:
    """Links instances frame by frame, each to the track that fits it best in all (Kuhn 1955)."""
    tracks: list[_Track] = []
    shot = 0
    for frame, item in enumerate(frames):
        profile = item.profile - centre
        shot = frame if frame in cuts else shot
        oldest = max(shot, frame - config.gap)
        near = [track for track in tracks if track.frames[-1] >= oldest]
        free = np.ones(len(profile), np.bool_)
        if near and len(profile):
            seen = np.stack([track.total for track in near])
            expected = np.stack([track.predicted(frame) for track in near])
            alike = config.profile_weight * (1 + _cosine(seen, profile)) / 2
            alike += (1 - config.profile_weight) * (1 + pairwise_giou(expected, item.box)) / 2
            for row, column in zip(*linear_sum_assignment(-alike), strict=True):
                if alike[row, column] >= config.link_above:
                    near[row].add(frame, int(column), item.box[column], profile[column])
                    free[column] = False
        tracks += [
            _Track([frame], [int(row)], item.box[row], profile[row]) for row in np.flatnonzero(free)
        ]
    return tracks


def _joined(tracks: list[_Track], frames: int, config: TrackConfig) -> list[_Track]:
    """Joins tracks without a common frame, the most alike first, while their profiles agree."""
    if not tracks:
        return []
    total = np.stack([track.total for track in tracks])
    seen = np.zeros((len(tracks), frames), np.float32)
    for row, track in enumerate(tracks):
        seen[row, track.frames] = 1
        track.set_heading()
    heading = np.stack([track.heading for track in tracks])
    alike = _cosine(total, total) + config.heading_weight * (heading @ heading.T)
    alike[np.tril_indices(len(tracks))] = -np.inf
    alike[seen @ seen.T > 0] = -np.inf
    merged = dict(enumerate(tracks))
    while True:
        first, second = map(int, np.unravel_index(alike.argmax(), alike.shape))
        if not alike[first, second] >= config.join_above:
            return list(merged.values())
        merged[first] = _one_track(merged[first], merged.pop(second))
        total[first] += total[second]
        seen[first] += seen[second]
        heading[first] = merged[first].heading
        fits = _cosine(total[first : first + 1], total)[0]
        fits += config.heading_weight * (heading @ heading[first])
        fits[seen @ seen[first] > 0] = -np.inf
        fits[[row for row in range(len(tracks)) if row not in merged]] = -np.inf
        alike[first, first + 1 :] = fits[first + 1 :]
        alike[:first, first] = fits[:first]
        alike[second], alike[:, second] = -np.inf, -np.inf


def _one_track(a: _Track, b: _Track) -> _Track:
    pairs = [*zip(a.frames, a.instances, strict=True), *zip(b.frames, b.instances, strict=True)]
    frames, instances = zip(*sorted(pairs), strict=True)
    joined = _Track(list(frames), list(instances), a.box, a.total + b.total)
    joined.steps = [*a.steps, *b.steps]
    joined.set_heading()
    return joined


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of every row of a with every row of b; 0 for a row of zeros."""
    sizes = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    found: NDArray[np.float64] = np.divide(
        a @ b.T, sizes, out=np.zeros_like(sizes), where=sizes > 0
    )
    return found
