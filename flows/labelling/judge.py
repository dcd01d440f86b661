"""Stage ``judge`` on a shard: a model chooses among the tracks of sentences that are in doubt.

It writes its answers, and the hypotheses of all sentences: those of ``fuse``, or, where its answers
agree, those that follow from its choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from flows.context import RunContext
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, FRAMES, Meter
from pipeline.config import JudgeConfig
from pipeline.fingerprint import digest
from pipeline.judgements import JudgeAnswer, Judgement, JudgeReply, JudgeRequest, Ruling
from pipeline.marks import marked
from pipeline.ports import Image
from pipeline.types import (
    Augmentation,
    Boxes,
    CandidateScores,
    FrameIndex,
    Hypotheses,
    Tracks,
    VideoRef,
)
from stages.augment.frames import fitted
from stages.common.mask_resolution import mask_above
from stages.fuse.doubt import Doubt, doubt_of
from stages.judge.answers import shuffled
from stages.judge.frames import frames_to_show
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import HypothesisWriter, StoredHypotheses
from storage.judgement_table import write_judgements
from storage.tables import read_augmentations, read_ground
from storage.track_table import read_tracks

TOGETHER = 8
"""Sentences whose frames are in memory at once."""


@dataclass(frozen=True)
class Known:
    """What is stored of a video."""

    video: VideoRef
    texts: Sequence[str]
    boxes: Sequence[Boxes]
    candidates: StoredCandidates
    scores: Sequence[CandidateScores]
    tracks: Tracks


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the answers and the hypotheses of a shard, one video at a time."""
    paths, shard = context.paths, job.shard.name
    augmentations = read_augmentations(paths.part("augment", shard))
    judgements: list[Judgement] = []
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts, boxes = read_ground(paths.boxes(shard), video.id)
        candidates = StoredCandidates(paths.candidates(shard), video.id)
        tracks = read_tracks(paths.part("track", shard), video.id)
        known = Known(video, texts, boxes, candidates, candidates.scores, tracks)
        found, counts = _judged(context, known, mine, meter)
        rulings = {item.key: item.ruling for item in found}
        stored = StoredHypotheses(paths.part("fuse", shard), video.id)
        stream = writer.start_video(video.id)
        for item, before in zip(mine, stored, strict=True):
            ruling = rulings.get(item.key)
            fused = before if ruling is None else _fused(context, known, item, ruling)
            later(partial(stream.append, fused))

        def finish() -> None:
            stream.finish()
            judgements.extend(found)

        context.progress.advance(1, len(video))
        return Done(len(video) * len(mine), finish, counts)

    with HypothesisWriter(paths.part("judge", shard), job.fingerprint) as writer:
        each_video(context, job.shard, outcome, work, meter)
    write_judgements(paths.judgements(shard), judgements)


def _fused(context: RunContext, known: Known, item: Augmentation, ruling: Ruling) -> Hypotheses:
    """Returns the hypotheses of a sentence that follow from a ruling."""
    parts, config = context.parts, context.judging
    stored = known.texts, known.boxes, known.scores, known.tracks
    return parts.fuse(item, *stored, config, ruling)


def _judged(
    context: RunContext, known: Known, mine: Sequence[Augmentation], meter: Meter
) -> tuple[list[Judgement], Counter[str]]:
    """Returns the judgements of the sentences of a video that are in doubt, and what to count."""
    config, fuse = context.config.judge, context.judging.fuse
    stored = known.texts, known.boxes, known.scores, known.tracks
    doubts = [(item, doubt_of(item, *stored, fuse, config.tracks)) for item in mine]
    open_to = [
        (item, doubt) for item, doubt in doubts if doubt.tracks and doubt.margin < config.below
    ]
    counts = Counter(sentences=len(mine), asked=len(open_to))
    found: list[Judgement] = []
    for start in range(0, len(open_to), TOGETHER):
        part = open_to[start : start + TOGETHER]
        with meter.measure(FRAMES):
            shown = list(_requests(context, known, part))
        with meter.measure(BUSY):
            replies = context.judge().ask([request for request, _ in shown])
        for row, (item, doubt) in enumerate(part):
            pair = slice(2 * row, 2 * row + 2)
            answers = tuple(
                _answer(doubt, numbers, reply)
                for (_, numbers), reply in zip(shown[pair], replies[pair], strict=True)
            )
            provenance = context.judge().provenance
            found.append(Judgement(item.key, doubt.margin, doubt.voted, answers, provenance))
        counts["questions"] += len(replies)
        counts["answers that cannot be read"] += sum(reply.chosen is None for reply in replies)
        for side, name in enumerate(("tokens read", "tokens written")):
            counts[name] += sum(reply.tokens[side] for reply in replies)
    for judgement in found:
        counts[f"judged: {judgement.outcome}"] += 1
    return found, +counts


def _requests(
    context: RunContext, known: Known, part: Sequence[tuple[Augmentation, Doubt]]
) -> Iterator[tuple[JudgeRequest, tuple[int, ...]]]:
    """Yields two questions about each sentence, and the number of each track in them."""
    config = context.config.judge
    images: dict[int, Image] = {}
    for item, doubt in part:
        seed = int(digest([context.config.seed, str(item.key)])[:16], 16)
        shown = (
            _shown(context, known, doubt, config, images) if context.judge().needs_frames else {}
        )
        for numbers in shuffled(doubt.tracks, seed):
            pictures = [
                fitted(marked(images[at], masks, numbers), config.max_pixels)
                for at, masks in shown.items()
            ]
            request = JudgeRequest(item.key, item.original, pictures, numbers, doubt.scores)
            yield request, numbers


def _shown(
    context: RunContext,
    known: Known,
    doubt: Doubt,
    config: JudgeConfig,
    images: dict[int, Image],
) -> Mapping[int, NDArray[np.bool_]]:
    """Returns frame -> masks [n, H, W] of the tracks in it. Adds the frames to ``images``."""
    of = known.tracks.of_candidate
    visible = np.stack([np.isin(doubt.tracks, frame) for frame in of])
    video, found = known.video, {}
    for at in frames_to_show(visible, config.frames):
        if at not in images:
            images[at] = context.reader().frame(video, FrameIndex(at))
        masks = np.zeros((len(doubt.tracks), video.height, video.width), np.bool_)
        candidates = known.candidates[at]
        for row, track in enumerate(doubt.tracks):
            rows = np.flatnonzero(of[at] == track)
            if len(rows):
                best = rows[candidates.predicted_iou[rows].argmax()]
                logits = torch.from_numpy(candidates.logits[best]).float()
                masks[row] = mask_above(logits, video.height, video.width, 0.0).numpy()
        found[at] = masks
    return found


def _answer(doubt: Doubt, numbers: tuple[int, ...], reply: JudgeReply) -> JudgeAnswer:
    """Returns a reply in terms of tracks."""
    track_of = dict(zip(numbers, doubt.tracks, strict=True))
    chosen = None if reply.chosen is None else tuple(sorted(track_of[n] for n in reply.chosen))
    return JudgeAnswer(doubt.tracks, numbers, reply.text, chosen, reply.probability)
