"""Explains a sample's hypotheses: who voted for which track, who objected, which threshold decided.

Nothing is decided here. The figures are those of :mod:`stages.fuse.tracks` and
:mod:`stages.fuse.frames`, taken from the same functions. Letters: K positives, N negatives,
T frames, n tracks of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FuseConfig
from pipeline.judgements import Ruling
from pipeline.types import Augmentation, Boxes, CandidateScores, Status, Tracks
from stages.fuse.frames import gate, judged_frames, scores_of
from stages.fuse.tracks import Votes, best_rows, judged_tracks, ruled, status_of, targets_of
from stages.fuse.votes import NOTHING_FOUND, with_votes


@dataclass(frozen=True)
class Vote:
    """What one sentence says of the video's tracks.

    Attributes:
        weight: of a positive, its share of the vote; 0 for a negative.
        best: the track that it fits best; -1 if it has no box.
        score: its mean score for that track.
        for_chosen: its mean score for the chosen track.
        objects: of a negative, whether it counts against the track that it fits best.
    """

    text: str
    kind: str
    weight: float
    best: int
    score: float
    for_chosen: float
    objects: bool


@dataclass(frozen=True)
class TrackSupport:
    """How the sentences judge a track.

    Attributes:
        support: mean support by the positives.
        score: support less what the negatives claim; the track with the highest is chosen.
        chosen: whether it is the target, or one of several.
    """

    track: int
    frames: int
    support: float
    score: float
    chosen: bool


@dataclass(frozen=True)
class Comparison:
    """A comparison that decided about a frame.

    Attributes:
        setting: the threshold's name in the configuration.
        value: what was compared with it.
        limit: the threshold.
        margin: by how much the value is above the limit; below 0 if it fails.
        fails_as: the status of a frame that fails, in words.
    """

    setting: str
    value: float
    limit: float
    fails_as: str

    @property
    def margin(self) -> float:
        return self.value - self.limit

    @property
    def passes(self) -> bool:
        return self.value >= self.limit


@dataclass(frozen=True)
class Explanation:
    """Why a sample's masks are what they are.

    Attributes:
        tracks: best first.
        tests: of the frame that was asked for, in the order in which they are made; the first that
            fails decides.
        track: the frame's best track; -1 without one.
        unit: what the numbers of tracks are of: ``track``, or ``instance`` of the frame alone.
        ruled: whether a judge chose the tracks.
    """

    votes: list[Vote]
    tracks: list[TrackSupport]
    frame: int
    track: int
    status: Status
    reason: str
    tests: list[Comparison]
    unit: str = "track"
    ruled: bool = False

    @property
    def decisive(self) -> Comparison | None:
        """The test that decided: the first that fails, or else the one that was passed with the
        least margin."""
        failing = [test for test in self.tests if not test.passes]
        if failing:
            return failing[0]
        return min(self.tests, key=lambda test: test.margin, default=None)


def explain_tracks(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: FuseConfig,
    frame: int,
    ruling: Ruling | None = None,
) -> Explanation:
    """Explains a sample of ``fuse.level = "track"``, and one of its frames.

    Args:
        augmentation, texts, boxes, candidates, tracks, config, ruling: as of
            :func:`stages.fuse.fuse`.
        frame: position of the frame.
    """
    augmentation, weight = with_votes(augmentation)
    frames, votes = judged_tracks(augmentation, weight, texts, boxes, candidates, tracks, config)
    votes = ruled(votes, ruling)
    said = _votes_of(augmentation, weight, votes)
    chosen = set(targets_of(augmentation, votes, config).tolist())
    if ruling is not None and not ruling.chosen:
        chosen = set()
    supports = [
        TrackSupport(
            int(t),
            int(votes.lasts[t]),
            float(votes.support[t]),
            float(votes.score[t]),
            int(t) in chosen,
        )
        for t in votes.order
    ]
    at = frames[frame]
    rows, is_ruled = best_rows(at, votes, len(weight)), ruling is not None
    if not len(rows):
        return Explanation(
            said, supports, frame, -1, Status.ABSENT, NOTHING_FOUND, [], ruled=is_ruled
        )
    support, _ = at.instances.margin(weight, votes.against)
    track, mine = int(at.track[rows[0]]), float(support[rows[0]])
    status, reason = status_of(track, mine, votes, config)
    tests = _comparisons(track, mine, votes, config)
    return Explanation(said, supports, frame, track, status, reason, tests, ruled=is_ruled)


def explain_frames(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    config: FuseConfig,
    frame: int,
) -> Explanation:
    """Explains a frame of a sample of ``fuse.level = "frame"``: its instances are numbered, and
    stand in the place of tracks.

    Args:
        augmentation, texts, boxes, candidates, config: as of :func:`stages.fuse.fuse`.
        frame: position of the frame.
    """
    augmentation, weight = with_votes(augmentation)
    seen, telling = judged_frames(augmentation, weight, texts, boxes, candidates, config)
    at = seen[frame]
    if at is None:
        return Explanation([], [], frame, -1, Status.ABSENT, NOTHING_FOUND, [], "instance")
    support, margin, score = scores_of(at, weight, telling, config)
    order = np.argsort(-score, kind="stable")
    best = int(order[0])
    votes = Votes(score, order, support, telling, at.score, np.ones(len(score)))
    said = _votes_of(augmentation, weight, votes)
    supports = [
        TrackSupport(int(i), 1, float(support[i]), float(score[i]), int(i) == best) for i in order
    ]
    status, reason = gate(float(support[best]), float(margin[best]), config)
    least = -config.claim_margin
    tests = [
        Comparison("fuse.absent_below", float(support[best]), config.absent_below, "absent"),
        Comparison("-fuse.claim_margin", float(margin[best]), least, "absent"),
        Comparison("fuse.uncertain_below", float(support[best]), config.uncertain_below, "unknown"),
        Comparison("-fuse.claim_margin / 2", float(margin[best]), least / 2, "unknown"),
    ]
    return Explanation(said, supports, frame, best, status, reason, tests, "instance")


def _votes_of(augmentation: Augmentation, weight: NDArray[np.float64], votes: Votes) -> list[Vote]:
    chosen = int(votes.order[0]) if len(votes.order) else -1
    said = [(item.text, "positive") for item in augmentation.positives]
    said += [(item.text, item.kind or "negative") for item in augmentation.negatives]
    share = np.concatenate([weight, np.zeros(len(augmentation.negatives))])
    against = np.concatenate([np.zeros(len(weight), np.bool_), votes.against])
    found = []
    for row, (text, kind) in enumerate(said):
        mean = votes.mean[row]
        best = int(mean.argmax()) if mean.max(initial=0) > 0 else -1
        top, mine = (float(mean[best]) if best >= 0 else 0.0), 0.0
        if chosen >= 0:
            mine = float(mean[chosen])
        found.append(Vote(text, kind, float(share[row]), best, top, mine, bool(against[row])))
    return found


def _comparisons(track: int, support: float, votes: Votes, config: FuseConfig) -> list[Comparison]:
    """Returns what :func:`status_of` compares, in its order."""
    chosen = votes.order[0]
    if votes.ruling is not None:
        # The judge decided whether the target is there at all, and which tracks it is not.
        decided = not votes.ruling.chosen or track in votes.ruling.rejected
        present = Comparison("fuse.present_above", support, config.present_above, "absent")
        return [] if decided else [present]
    whole, best = float(votes.support[chosen]), float(votes.score[chosen])
    return [
        Comparison("fuse.absent_below", whole, config.absent_below, "absent"),
        Comparison("fuse.stand_in", float(votes.score[track]), config.stand_in * best, "absent"),
        Comparison("fuse.present_above", support, config.present_above, "absent"),
        Comparison("fuse.uncertain_below", whole, config.uncertain_below, "unknown"),
    ]
