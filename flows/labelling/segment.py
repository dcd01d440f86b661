"""Stage ``segment`` on a shard: a candidate mask for every box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flows.context import RunContext
from flows.labelling.prefetch import feed_of
from flows.labelling.videos import Done, Later, each_video
from flows.planning.mirrored import remove
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.types import FrameIndex, VideoRef
from storage.arrays.candidates import CandidateWriter
from storage.tables import read_ground


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the candidates of a shard, batch by batch."""
    config = context.config.segment
    remove(context.paths.baseline(job.shard.name))
    ground = context.paths.part("ground", job.shard.name)
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        _, boxes = read_ground(ground, video.id)
        segmenter = context.segmenter()
        seen = masks = 0
        stream = writer.start_video(video.id)
        try:
            for images in feed.batches(video):
                asked = [item.xyxy for item in boxes[seen : seen + len(images)]]
                with meter.measure(BUSY):
                    candidates = segmenter.decode(segmenter.embed(images), asked)
                seen += len(images)
                masks += sum(map(len, candidates))
                later(partial(stream.append, candidates))
                context.progress.advance(len(images) / len(video), len(images))
        except Exception:
            later(partial(writer.remove_video, video.id))
            raise
        return Done(len(video), stream.finish, {"boxes": sum(map(len, boxes)), "masks": masks})

    with (
        CandidateWriter(context.paths.part("segment", job.shard.name), job.fingerprint) as writer,
        feed_of(context, job.shard, outcome, _all_frames, config.batch_frames, meter) as feed,
    ):
        each_video(context, job.shard, outcome, work, meter, feed.video)


def _all_frames(video: VideoRef) -> Sequence[FrameIndex]:
    return [FrameIndex(index) for index in range(len(video))]
