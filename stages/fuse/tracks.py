"""Fusion over whole tracks: which object of the video the target is.

The sentences' scores of a track are their means over its frames. The positives vote for a track by
these; a negative counts against the track that it fits best itself. One frame cannot show a
movement, and a track can: a sentence that names one counts less for tracks that move otherwise
(:mod:`stages.fuse.motion`).

Letters: K positives, N negatives, T frames, Q candidates of a frame, n tracks of the video, I of
them in a frame, P hypotheses kept of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FuseConfig
from pipeline.judgements import Ruling
from pipeline.plural import targets_named
from pipeline.types import Augmentation, Boxes, CandidateScores, Hypotheses, Status, Tracks
from stages.fuse.motion import motion_factors
from stages.fuse.votes import (
    IN_DOUBT,
    JUDGED_ABSENT,
    NOT_SEEN,
    NOTHING_FOUND,
    UNCLAIMED,
    Instances,
    Sentences,
    fill,
    no_hypotheses,
    with_votes,
)


@dataclass(frozen=True)
class FrameTracks:
    """The tracks in one frame.

    Attributes:
        track: int [I], ascending.
        instances: what the sentences say of each of them.
    """

    track: NDArray[np.intp]
    instances: Instances


@dataclass(frozen=True)
class Votes:
    """How the sentences judge the n tracks.

    Attributes:
        score: float64 [n], the positives' support less what the negatives claim.
        order: int [n], tracks by score, best first.
        support: float64 [n], mean support by the positives.
        against: bool [N], whether a negative fits another track better than the best one.
        mean: float64 [K + N, n], mean score of each sentence for each track, over its frames; less
            where the track does not move as the sentence says.
        lasts: float64 [n], number of frames of each track.
        ruling: of a judge; its choice is in ``score`` and ``order``. None without one.
    """

    score: NDArray[np.float64]
    order: NDArray[np.intp]
    support: NDArray[np.float64]
    against: NDArray[np.bool_]
    mean: NDArray[np.float64]
    lasts: NDArray[np.float64]
    ruling: Ruling | None = None


def fuse_tracks(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: FuseConfig,
    ruling: Ruling | None = None,
) -> Hypotheses:
    """Chooses among the tracks of a video; arguments and result as of :func:`stages.fuse.fuse`.

    A frame is present where a chosen track is and the positives support it, or where another track
    stands in for it: one that broke off, say. The hypotheses of a frame are its tracks. A sentence
    that names several objects chooses several tracks, and the mask is their union.
    """
    augmentation, weight = with_votes(augmentation)
    found = no_hypotheses(augmentation, len(boxes), config.hypotheses)
    frames, votes = judged_tracks(augmentation, weight, texts, boxes, candidates, tracks, config)
    votes = ruled(votes, ruling)
    chosen = targets_of(augmentation, votes, config)
    reasons = [
        _fill(found, index, frame, votes, chosen, boxes[index], candidates[index], weight, config)
        if len(frame.track)
        else NOTHING_FOUND
        for index, frame in enumerate(frames)
    ]
    return Hypotheses(**{**vars(found), "reason": tuple(reasons)})


def judged_tracks(
    augmentation: Augmentation,
    weight: NDArray[np.float64],
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: FuseConfig,
) -> tuple[list[FrameTracks], Votes]:
    """Returns what a sample's sentences say of the tracks of each frame, and of the whole video.

    Args:
        augmentation: the sample with the positives that have a vote.
        weight: float64 [K], of these.
    """
    sentence_of = Sentences(augmentation, texts)
    frames = [
        _frame(mine, item.box_row, of_candidate, sentence_of, len(weight))
        for mine, item, of_candidate in zip(boxes, candidates, tracks.of_candidate, strict=True)
    ]
    said = [item.text for item in augmentation.positives]
    said += [item.text for item in augmentation.negatives]
    moves = motion_factors(said, boxes, candidates, tracks, config.motion_weight)
    return frames, _votes(frames, tracks, weight, moves, config.negative_weight)


def _frame(
    boxes: Boxes,
    box_row: NDArray[np.int32],
    of_candidate: NDArray[np.int32],
    sentence_of: Sentences,
    positives: int,
) -> FrameTracks:
    """Collects what the sample's sentences say of each track of a frame."""
    rows, sentence = sentence_of.answers(boxes.text)
    track = of_candidate[box_row[rows]].astype(np.intp)
    kept = track >= 0
    order = np.lexsort((-boxes.score[rows].astype(np.float64), sentence >= positives, ~kept))
    order = order[: int(kept.sum())]
    rows, sentence, track = rows[order], sentence[order], track[order]
    present, at, place = np.unique(track, return_index=True, return_inverse=True)
    shape = (sentence_of.count, len(present))
    found = Instances.of(boxes, box_row, rows, sentence, place, shape, rows[at])
    return FrameTracks(present, found)


def _votes(
    frames: Sequence[FrameTracks],
    tracks: Tracks,
    weight: NDArray[np.float64],
    moves: NDArray[np.float64],
    negative_weight: float,
) -> Votes:
    """Judges every track by the mean scores of its frames, those without any box among them, and by
    how it moves.

    Args:
        moves: float64 [K + N, n], of :func:`stages.fuse.motion.motion_factors`.
    """
    (sentences, count), positives = moves.shape, len(weight)
    total, lasts = np.zeros((sentences, count)), np.zeros(count)
    for frame, of_candidate in zip(frames, tracks.of_candidate, strict=True):
        total[:, frame.track] += frame.instances.score
        lasts[np.unique(of_candidate[of_candidate >= 0])] += 1
    mean = moves * total / np.maximum(lasts, 1)
    support = weight @ mean[:positives]
    claim = np.zeros(count)
    against = np.zeros(sentences - positives, np.bool_)
    if count and sentences > positives:
        own = mean[positives:].argmax(axis=1)
        # A negative that fits the positives' own track best cannot tell the two apart.
        against = (own != support.argmax()) & (mean[positives:].max(axis=1) > 0)
        np.maximum.at(claim, own[against], mean[positives:][against, own[against]])
    score = support - negative_weight * np.maximum(claim - support, 0)
    return Votes(score, np.argsort(-score, kind="stable"), support, against, mean, lasts)


def ruled(votes: Votes, ruling: Ruling | None) -> Votes:
    """Returns votes after the ruling of a judge, if there is one.

    The negatives do not count against a track that it chose. A track that it rejected scores at
    most the share of the lowest chosen one that the judge leaves in doubt; if it chose none, that
    share of its own score.
    """
    if ruling is None:
        return votes
    score, chosen = votes.score.copy(), list(ruling.chosen)
    rejected, doubt = list(ruling.rejected), 1 - ruling.probability
    score[chosen] = votes.support[chosen]
    limit = score[chosen].min() if chosen else np.maximum(score[rejected], 0)
    score[rejected] = np.minimum(score[rejected], doubt * limit)
    later = np.ones(len(score), np.bool_)
    later[chosen] = False
    return replace(votes, score=score, order=np.lexsort((-score, later)), ruling=ruling)


def _fill(
    found: Hypotheses,
    index: int,
    frame: FrameTracks,
    votes: Votes,
    chosen: NDArray[np.intp],
    boxes: Boxes,
    candidates: CandidateScores,
    weight: NDArray[np.float64],
    config: FuseConfig,
) -> str:
    """Fills one frame of ``found``; returns the reason, empty where the target is present."""
    instances = frame.instances
    support, margin = instances.margin(weight, votes.against)
    score = votes.score[frame.track]
    if votes.ruling is not None:
        # A judge's rejection claims a track as a negative does.
        rejected = np.isin(frame.track, votes.ruling.rejected)
        margin[rejected] = np.minimum(margin, support - votes.ruling.probability)[rejected]
    rows = best_rows(frame, votes, len(weight))
    # Of several targets, those that this frame shows come first; they are the best ones anyway.
    shown = np.isin(frame.track[rows], chosen) & (support[rows] >= config.present_above)
    if len(chosen) > 1:
        rows = np.concatenate([rows[shown], rows[~shown]])
        found.together[index] = max(1, int(shown.sum()))
    rows = rows[: config.hypotheses]
    fill(found, index, instances, rows, score, margin, boxes, candidates, weight)
    if not len(rows):
        return NOTHING_FOUND
    status, reason = status_of(int(frame.track[rows[0]]), float(support[rows[0]]), votes, config)
    found.status[index] = status
    return reason


def targets_of(augmentation: Augmentation, votes: Votes, config: FuseConfig) -> NDArray[np.intp]:
    """Returns the tracks that are the target, best first: one, or several if the sentence names
    several.

    A further track needs support of its own, and a score that is near the best one's. Without any
    track, there is none.
    """
    if votes.ruling is not None:
        return votes.order[: min(max(1, len(votes.ruling.chosen)), config.hypotheses)]
    named = targets_named(augmentation.original) if config.several else 1
    count, best = min(named, config.hypotheses), votes.order[:1]
    if count == 1 or not len(best):
        return best
    alike = votes.score >= config.alike * votes.score[best[0]]
    supported = votes.support >= config.absent_below
    fits = [track for track in votes.order[1:count] if alike[track] and supported[track]]
    return np.concatenate([best, np.array(fits, np.intp)])


def best_rows(frame: FrameTracks, votes: Votes, positives: int) -> NDArray[np.intp]:
    """Returns the rows of a frame's tracks that a positive has a box of, best first."""
    rows = np.flatnonzero((frame.instances.candidate[:positives] >= 0).any(axis=0))
    return rows[np.argsort(-votes.score[frame.track][rows], kind="stable")]


def status_of(track: int, support: float, votes: Votes, config: FuseConfig) -> tuple[Status, str]:
    """Judges a frame by its best track and by the support of that track there."""
    chosen = votes.order[0]
    if votes.ruling is not None:
        return _status_ruled(track, support, votes, config)
    if votes.support[chosen] < config.absent_below:
        return Status.ABSENT, UNCLAIMED
    if votes.score[track] < config.stand_in * votes.score[chosen] or (
        support < config.present_above
    ):
        return Status.ABSENT, NOT_SEEN
    if votes.support[chosen] < config.uncertain_below:
        return Status.UNKNOWN, IN_DOUBT
    return Status.PRESENT, ""


def _status_ruled(
    track: int, support: float, votes: Votes, config: FuseConfig
) -> tuple[Status, str]:
    """Judges a frame by what a judge decided about the whole video."""
    assert votes.ruling is not None, "there is a ruling"
    if not votes.ruling.chosen:
        return Status.ABSENT, JUDGED_ABSENT
    stands_in = (
        track not in votes.ruling.rejected
        and votes.score[track] >= config.stand_in * votes.score[votes.order[0]]
    )
    if support < config.present_above or not (track in votes.ruling.chosen or stands_in):
        return Status.ABSENT, NOT_SEEN
    return Status.PRESENT, ""
