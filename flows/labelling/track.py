"""Stage ``track`` on a shard: which stored candidates of a video are one object."""

from __future__ import annotations

from functools import partial

from flows.context import RunContext
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.types import VideoRef
from storage.arrays.candidates import StoredCandidates
from storage.tables import read_ground
from storage.track_table import TrackWriter


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the tracks of a shard, one video at a time."""
    paths, shard = context.paths, job.shard.name
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        texts, boxes = read_ground(paths.part("ground", shard), video.id)
        candidates = StoredCandidates(paths.part("segment", shard), video.id)
        with meter.measure(BUSY):
            tracks = context.parts.track(len(texts), boxes, candidates, context.config)
        context.progress.advance(1, len(video))
        counts = {"tracks": len(tracks)}
        return Done(len(video), partial(writer.write_video, video.id, tracks), counts)

    with TrackWriter(paths.part("track", shard)) as writer:
        each_video(context, job.shard, outcome, work, meter)
