"""What is known of the tracks of a video, and which of them to follow from which frames.

Letters: T frames, S sentences of the video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import TrackConfig
from pipeline.types import Boxes, CandidateScores, Tracks

SPACING = 8
"""Fewest frames between two prompts of an object: neighbours show the same."""


@dataclass(frozen=True)
class Object:
    """An object to follow.

    Attributes:
        track: number of its track in the association.
        boxes: position of a frame -> its box there, float32 [4], xyxy pixels.
    """

    track: int
    boxes: Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Evidence:
    """What the boxes of a video say of its tracks.

    Attributes:
        profile: float64 [tracks, S], mean score of each sentence over the frames of a track.
        lasts: int [tracks], number of frames of a track.
    """

    profile: NDArray[np.float64]
    lasts: NDArray[np.intp]


def evidence_of(
    sentences: int, boxes: Sequence[Boxes], candidates: Sequence[CandidateScores], tracks: Tracks
) -> Evidence:
    """Collects what the boxes say of the tracks."""
    total, lasts = np.zeros((len(tracks), sentences)), np.zeros(len(tracks), np.intp)
    for mine, scores, of_candidate in zip(boxes, candidates, tracks.of_candidate, strict=True):
        here = np.zeros_like(total)
        track = of_candidate[scores.box_row]
        kept = track >= 0
        np.maximum.at(here, (track[kept], mine.text[kept]), mine.score[kept].astype(np.float64))
        total += here
        lasts[np.unique(track[kept])] += 1
    return Evidence(total / np.maximum(lasts, 1)[:, None], lasts)


def choose_objects(
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    evidence: Evidence,
    config: TrackConfig,
) -> list[Object]:
    """Chooses the tracks to follow, and the frames to follow them from.

    Tracks with the most evidence come first: their best sentence's score, summed over their frames.
    The prompts of a track are the boxes of the frames in which the sentences score it highest in
    all, at least :data:`SPACING` frames apart.
    """
    weight = evidence.profile.max(axis=1, initial=0) * evidence.lasts
    chosen = np.argsort(-weight, kind="stable")[: config.objects]
    wanted = {int(track) for track in chosen if weight[track] > 0}
    found: dict[int, list[tuple[float, int, NDArray[np.float32]]]] = {row: [] for row in wanted}
    for frame, (mine, scores, of_candidate) in enumerate(
        zip(boxes, candidates, tracks.of_candidate, strict=True)
    ):
        track = of_candidate[scores.box_row]
        for row in wanted.intersection(track.tolist()):
            of_it = np.flatnonzero(track == row)
            best = of_it[mine.score[of_it].argmax()]
            found[row].append((float(mine.score[of_it].sum()), frame, mine.xyxy[best]))
    return [Object(row, _surest(found[row], config.prompts)) for row in sorted(wanted)]


def _surest(
    found: Sequence[tuple[float, int, NDArray[np.float32]]], count: int
) -> dict[int, NDArray[np.float32]]:
    kept: dict[int, NDArray[np.float32]] = {}
    for _, frame, box in sorted(found, key=lambda item: (-item[0], item[1])):
        if len(kept) < count and all(abs(frame - other) >= SPACING for other in kept):
            kept[frame] = box
    return kept


def joined_profile(evidence: Evidence, renamed: NDArray[np.int32]) -> NDArray[np.float64]:
    """Mean scores of tracks some of which have been joined."""
    total, lasts = np.zeros_like(evidence.profile), np.zeros(len(renamed))
    np.add.at(total, renamed, evidence.profile * evidence.lasts[:, None])
    np.add.at(lasts, renamed, evidence.lasts)
    return total / np.maximum(lasts, 1)[:, None]
