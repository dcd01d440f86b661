"""How sure the votes are of a sentence's tracks, and which tracks are worth a second look.

Letters: n tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import FuseConfig
from pipeline.types import Augmentation, Boxes, CandidateScores, Tracks
from stages.fuse.tracks import judged_tracks, targets_of
from stages.fuse.votes import with_votes


@dataclass(frozen=True)
class Doubt:
    """The votes about a sentence.

    Attributes:
        margin: by how much the chosen track's score leads that of the best other one; of several
            chosen tracks, the lowest. A missing other one scores 0.
        voted: tracks that are chosen, ascending; empty if the target is absent from the video.
        tracks: the best tracks, by their votes; those that no positive fits are left out.
        scores: mean score of the original sentence for each of them.
    """

    margin: float
    voted: tuple[int, ...]
    tracks: tuple[int, ...]
    scores: tuple[float, ...]


def doubt_of(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: FuseConfig,
    most: int,
) -> Doubt:
    """Returns how sure the votes of a sample are.

    Args:
        augmentation, texts, boxes, candidates, tracks, config: as of :func:`stages.fuse.fuse`.
        most: tracks to return.
    """
    augmentation, weight = with_votes(augmentation)
    _, votes = judged_tracks(augmentation, weight, texts, boxes, candidates, tracks, config)
    chosen = targets_of(augmentation, votes, config)
    if not len(chosen):
        return Doubt(0.0, (), (), ())
    others = np.setdiff1d(votes.order, chosen)
    rival = max(0.0, float(votes.score[others].max(initial=0.0)))
    there = votes.support[chosen[0]] >= config.absent_below
    shown = tuple(int(track) for track in votes.order[:most] if votes.support[track] > 0)
    return Doubt(
        float(votes.score[chosen].min()) - rival,
        tuple(sorted(map(int, chosen))) if there else (),
        shown,
        tuple(float(votes.mean[0, track]) for track in shown),
    )
