"""Stage ``fuse`` on a shard: hypotheses of every expression, from boxes, candidates and tracks."""

from __future__ import annotations

from collections import Counter
from functools import partial

from flows.context import RunContext
from flows.labelling.videos import Done, Later, count_frames, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.types import VideoRef
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import HypothesisWriter
from storage.tables import read_augmentations, read_ground
from storage.track_table import read_tracks


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the hypotheses of a shard, one expression at a time."""
    paths, shard, config = context.paths, job.shard.name, context.judging
    augmentations = read_augmentations(paths.part("augment", shard))
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts, boxes = read_ground(paths.boxes(shard), video.id)
        candidates = StoredCandidates(paths.candidates(shard), video.id).scores
        tracks = read_tracks(paths.part("track", shard), video.id)
        stream = writer.start_video(video.id)
        counts: Counter[str] = Counter()
        for item in mine:
            with meter.measure(BUSY):
                fused = context.parts.fuse(item, texts, boxes, candidates, tracks, config)
            count_frames(counts, fused.status, fused.reason)
            later(partial(stream.append, fused))
            context.progress.advance(1 / len(mine), len(video))
        return Done(len(video) * len(mine), stream.finish, counts)

    with HypothesisWriter(paths.part("fuse", shard), job.fingerprint) as writer:
        each_video(context, job.shard, outcome, work, meter)
