"""How tracks move, against the movement that a sentence names.

A grounder sees one frame, so it can only guess which object 'the dog running to the left' means.
Its scores of such a sentence count less for tracks that move otherwise. Tracks are compared with
each other, so a movement of the camera, which all of them share, matters little.

Letters: T frames, n tracks of the video, S sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.movement import CLEAR, Movement, movement_named
from pipeline.types import Boxes, CandidateScores, Tracks

FEWEST_STEPS = 2
"""Steps that a track needs before its movement is known."""


def motion_factors(
    sentences: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    weight: float,
) -> NDArray[np.float64]:
    """Returns float64 [S, n]: what each sentence's scores of each track are multiplied by.

    It is 1 for sentences that name no movement, and for the track that moves most as named; down to
    1 - ``weight`` for one that moves the other way.
    """
    factors = np.ones((len(sentences), len(tracks)))
    named = [movement_named(sentence) for sentence in sentences]
    if not len(tracks) or not weight or not any(named):
        return factors
    velocity, known = track_velocities(boxes, candidates, tracks)
    for row, movement in enumerate(named):
        if movement is not None:
            factors[row] -= weight * (1 - agreement(movement, velocity, known))
    return factors


def agreement(
    movement: Movement, velocity: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns how well each track moves as named, float64 [n] in [0, 1]; 1 for the best.

    Args:
        velocity: float64 [n, 2], diagonals of the box per frame.
        known: bool [n]; a track whose movement is not known counts half.
    """
    if movement is Movement.STILL:
        fits = np.exp(-np.hypot(velocity[:, 0], velocity[:, 1]) / CLEAR)
    else:
        fits = 1 / (1 + np.exp(-np.clip(velocity @ movement.value / CLEAR, -50, 50)))
    best = fits[known].max(initial=0)
    return np.where(known, fits / best if best > 0 else 1.0, 0.5)


def track_velocities(
    boxes: Sequence[Boxes], candidates: Sequence[CandidateScores], tracks: Tracks
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns the median step of each track's best box between neighbouring frames.

    Returns:
        float64 [n, 2], x and y in diagonals of the box per frame; and bool [n], whether there are
        enough steps.
    """
    velocity, known = np.zeros((len(tracks), 2)), np.zeros(len(tracks), np.bool_)
    frame = np.repeat(np.arange(len(boxes)), [len(item) for item in boxes])
    of = [mine[item.box_row] for mine, item in zip(tracks.of_candidate, candidates, strict=True)]
    track = np.concatenate([np.zeros(0, np.int32), *of])
    score = np.concatenate([np.zeros(0, np.float32), *(item.score for item in boxes)])
    corners = np.concatenate([np.zeros((0, 4), np.float32), *(item.xyxy for item in boxes)])
    order = np.lexsort((-score, frame, track))
    order = order[track[order] >= 0]
    place = np.stack([track[order], frame[order]], axis=1)
    first = np.ones(len(order), np.bool_)
    first[1:] = (place[1:] != place[:-1]).any(axis=1)
    place, box = place[first], corners[order[first]].astype(np.float64)
    centre, size = (box[:, :2] + box[:, 2:]) / 2, np.hypot(*(box[:, 2:] - box[:, :2]).T)
    near = (place[1:, 0] == place[:-1, 0]) & (place[1:, 1] == place[:-1, 1] + 1)
    step = (centre[1:] - centre[:-1])[near] / np.maximum(size[1:][near], 1)[:, None]
    owner = place[1:, 0][near]
    for number in np.unique(owner):
        mine = step[owner == number]
        known[number] = len(mine) >= FEWEST_STEPS
        velocity[number] = np.median(mine, axis=0)
    return velocity, known
