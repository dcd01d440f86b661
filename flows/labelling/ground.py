"""Stage ``ground`` on a shard: boxes of every sentence in every frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from flows.context import RunContext
from flows.labelling.prefetch import feed_of
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.types import Boxes, FrameIndex, VideoRef
from stages.ground.annotated import annotated_boxes
from stages.ground.key_frames import fill_between, key_frames
from stages.ground.queries import no_boxes, texts_of
from storage.tables import GroundWriter, read_augmentations


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the boxes of a shard, from the grounder or from the data set's annotation."""
    reader, config = context.reader(), context.config.ground
    augmentations = read_augmentations(context.paths.part("augment", job.shard.name))
    meter = Meter()

    def seen(video: VideoRef) -> Sequence[FrameIndex]:
        if config.source == "annotation" or not texts_of(augmentations.get(video.id, [])):
            return ()
        return [FrameIndex(index) for index in key_frames(len(video), config.every)]

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts, keys = texts_of(mine), seen(video)
        if config.source == "annotation":
            boxes = annotated_boxes(reader, video, mine, texts)
        elif not texts:
            boxes = no_boxes(len(video))
        else:
            grounder, found = context.grounder(), list[Boxes]()
            for images in feed.batches(video):
                with meter.measure(BUSY):
                    found += grounder.ground(grounder.embed(images), texts)
                context.progress.advance(len(images) / len(keys), len(images))
            boxes = fill_between(keys, found)
        only_keys = keys if 0 < len(keys) < len(video) else None
        counts = {"texts": len(texts), "boxes": sum(map(len, boxes))}
        if only_keys:
            counts["key frames"] = len(only_keys)
        write = partial(writer.write_video, video.id, texts, boxes, only_keys)
        return Done(len(video), write, counts)

    with (
        GroundWriter(context.paths.part("ground", job.shard.name)) as writer,
        feed_of(context, job.shard, outcome, seen, config.batch_frames, meter) as feed,
    ):
        each_video(context, job.shard, outcome, work, meter, feed.video)
