"""Stage ``ground`` on a shard: boxes of every sentence in every frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from flows.context import RunContext
from flows.labelling.prefetch import FrameFeed, feed_of
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.ports import Image
from pipeline.types import Augmentation, Boxes, FrameIndex, VideoRef
from stages.ground.annotated import annotated_boxes
from stages.ground.key_frames import fill_between, key_frames
from stages.ground.queries import no_boxes, texts_of
from stages.ground.screening import only_rows, rows_renamed, screening_frames, telling_texts
from storage.tables import GroundWriter, read_augmentations


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the boxes of a shard, from the grounder or from the data set's annotation."""
    reader, config = context.reader(), context.config.ground
    augmentations = read_augmentations(context.paths.part("augment", job.shard.name))
    meter = Meter()

    def seen(video: VideoRef) -> Sequence[FrameIndex]:
        if config.source == "annotation" or not texts_of(augmentations.get(video.id, [])):
            return ()
        keys = key_frames(len(video), config.every)
        first = screening_frames(keys, config.screen)
        rest = sorted({*keys} - {*first})
        return [FrameIndex(index) for index in (*first, *rest)]

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts, keys = texts_of(mine), sorted(seen(video))
        counts: Counter[str] = Counter(texts=len(texts))
        if config.source == "annotation":
            boxes = annotated_boxes(reader, video, mine, texts, config.annotated_frames)
        elif not texts:
            boxes = no_boxes(len(video))
        else:
            found = _grounded(context, feed, video, seen(video), mine, texts, meter, counts)
            boxes = fill_between(keys, found)
        only_keys = keys if 0 < len(keys) < len(video) else None
        counts["boxes"] = sum(map(len, boxes))
        if only_keys:
            counts["key frames"] = len(only_keys)
        write = partial(writer.write_video, video.id, texts, boxes, only_keys)
        return Done(len(video), write, counts)

    with (
        GroundWriter(context.paths.part("ground", job.shard.name)) as writer,
        feed_of(context, job.shard, outcome, seen, config.batch_frames, meter) as feed,
    ):
        each_video(context, job.shard, outcome, work, meter, feed.video)


def _grounded(
    context: RunContext,
    feed: FrameFeed,
    video: VideoRef,
    seen: Sequence[FrameIndex],
    mine: Sequence[Augmentation],
    texts: Sequence[str],
    meter: Meter,
    counts: Counter[str],
) -> list[Boxes]:
    """Returns the boxes of the frames that the grounder sees, in the order of the video.

    Args:
        seen: these frames, in the order in which they come: those of the screening first.
        counts: counts what was done.
    """
    grounder, config = context.grounder(), context.config.ground
    screened = len(screening_frames(seen, config.screen))
    rows, found = list(range(len(texts))), list[Boxes]()
    for images in _parts(feed, video, screened):
        if len(found) == screened < len(seen):
            rows = telling_texts(mine, texts, found)
            found = [only_rows(item, rows) for item in found]
            counts["texts left out"] = len(texts) - len(rows)
        with meter.measure(BUSY):
            part = grounder.ground(grounder.embed(images), [texts[row] for row in rows])
        found += [rows_renamed(item, rows) for item in part]
        counts["passes"] += len(images) * -(-len(rows) // config.joint)
        context.progress.advance(len(images) / len(seen), len(images))
    return [item for _, item in sorted(zip(seen, found, strict=True), key=lambda pair: pair[0])]


def _parts(feed: FrameFeed, video: VideoRef, first: int) -> Iterator[Sequence[Image]]:
    """Yields the frames of a video in batches, none of which goes past the first ones."""
    done = 0
    for images in feed.batches(video):
        cut = first - done if done < first < done + len(images) else len(images)
        yield images[:cut]
        if cut < len(images):
            yield images[cut:]
        done += len(images)
