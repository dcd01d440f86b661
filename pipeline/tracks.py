"""Which track a hypothesis of a sample is, and in which order tracks come for a sample."""

from __future__ import annotations

import numpy as np

from pipeline.types import Hypotheses, Tracks


def hypothesis_of(hypotheses: Hypotheses, tracks: Tracks, frame: int, track: int) -> int | None:
    """Returns the row of the frame's hypothesis that is of a track; None without one."""
    for row in range(int(hypotheses.count[frame])):
        if track_of(hypotheses, tracks, frame, row) == track:
            return row
    return None


def track_of(hypotheses: Hypotheses, tracks: Tracks, frame: int, row: int) -> int:
    """Returns the track of a hypothesis: that of most of its candidates' weight; -1 without one."""
    members = hypotheses.candidate[frame, row]
    share = hypotheses.share[frame, row][members >= 0]
    of = tracks.of_candidate[frame][members[members >= 0]]
    if not (of >= 0).any():
        return -1
    return int(np.bincount(of[of >= 0], weights=share[of >= 0]).argmax())


def order_of_tracks(hypotheses: Hypotheses, tracks: Tracks) -> list[int]:
    """Returns the tracks of a video for a sample, the likeliest first.

    Tracks that are hypotheses of the sample come by the sum of their scores over the frames, then
    the others by their number of frames.
    """
    score, lasts = np.zeros(len(tracks)), np.zeros(len(tracks))
    for frame, of in enumerate(tracks.of_candidate):
        lasts[np.unique(of[of >= 0])] += 1
        for row in range(int(hypotheses.count[frame])):
            track = track_of(hypotheses, tracks, frame, row)
            if track >= 0:
                score[track] += max(float(hypotheses.score[frame, row]), 0)
    order: list[int] = np.lexsort((-lasts, -score)).tolist()
    return [track for track in order if lasts[track]]
