"""Stage ``track`` on a shard: which candidates of a video are one object.

With a video model, it also writes the boxes and candidates that the later stages read in place of
the grounding model's and the segmenter's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

from flows.context import RunContext
from flows.labelling.prefetch import FrameFeed, feed_of
from flows.labelling.videos import Done, Later, each_video
from flows.planning.commit import remove
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.ports import Image
from pipeline.types import Boxes, FrameIndex, Tracks, VideoRef
from storage.arrays.candidates import CandidateWriter, StoredCandidates
from storage.tables import GroundWriter, read_ground
from storage.track_table import TrackWriter

READ_AHEAD = 16
"""Frames that are read at once on the way back: a video file is read fast only forwards."""


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the tracks of a shard, one video at a time."""
    for place in context.paths.followed(job.shard.name):
        remove(place)
    if context.config.track.source == "model":
        _run_with_model(job, context, outcome)
        return
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        _, _, _, tracks = _associated(job, context, video, meter, feed)
        context.progress.advance(1, len(video))
        counts = {"tracks": len(tracks)}
        return Done(len(video), partial(writer.write_video, video.id, tracks), counts)

    with (
        TrackWriter(context.paths.part("track", job.shard.name)) as writer,
        _feed(job, context, outcome, meter) as feed,
    ):
        each_video(context, job.shard, outcome, work, meter, feed.video)


def _feed(job: Job, context: RunContext, outcome: Outcome, meter: Meter) -> FrameFeed:
    """Returns what reads the frames in which cuts are looked for."""

    def seen(video: VideoRef) -> Sequence[FrameIndex]:
        return [FrameIndex(at) for at in range(len(video))] if context.config.track.cuts else ()

    return feed_of(context, job.shard, outcome, seen, READ_AHEAD, meter)


def _cuts(video: VideoRef, meter: Meter, feed: FrameFeed) -> list[int]:
    """Returns the first frame of each shot but the first; none if they are not looked for."""
    from stages.track.cuts import CutFinder

    finder = CutFinder()
    for images in feed.batches(video):
        with meter.measure(BUSY):
            for image in images:
                finder.add(image)
    return finder.finish()


def _associated(
    job: Job, context: RunContext, video: VideoRef, meter: Meter, feed: FrameFeed
) -> tuple[Sequence[str], Sequence[Boxes], StoredCandidates, Tracks]:
    """Reads the boxes and masks of a video, and links them."""
    paths, shard = context.paths, job.shard.name
    texts, boxes = read_ground(paths.part("ground", shard), video.id)
    candidates = StoredCandidates(paths.part("segment", shard), video.id)
    cuts = _cuts(video, meter, feed)
    with meter.measure(BUSY):
        tracks = context.parts.track(len(texts), boxes, candidates, context.config, cuts)
    return texts, boxes, candidates, tracks


def _run_with_model(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Follows the tracks of every video through all of its frames."""
    from stages.track.objects import choose_objects, evidence_of
    from stages.track.propagation import Propagation

    paths, shard, config = context.paths, job.shard.name, context.config.track
    boxes_path, candidates_path = paths.followed(shard)
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        texts, boxes, found, tracks = _associated(job, context, video, meter, feed)
        evidence = evidence_of(len(texts), boxes, found.scores, tracks)
        objects = choose_objects(boxes, found.scores, tracks, evidence, config)
        if not objects:
            candidates.write_video(video.id, list(found))
            return _done(video, texts, boxes, tracks, 0)
        height, width = next(item.logits.shape[1:] for item in found if len(item))
        size = video.height, video.width
        stream = candidates.start_video(video.id)
        try:
            with closing(Propagation(objects, len(video), size, (height, width))) as followed:
                frames = _frames_of(context, video)
                with meter.measure(BUSY):
                    followed.follow(context.tracker(), frames, config.same_mask_iou)
                    for item in followed.candidates(boxes, found, tracks, evidence, config):
                        stream.append([item])
        except Exception:
            candidates.remove_video(video.id)
            raise
        stream.finish()
        return _done(video, texts, followed.boxes, followed.tracks(), len(objects))

    def _done(
        video: VideoRef,
        texts: Sequence[str],
        boxes: Sequence[Boxes],
        tracks: Tracks,
        objects: int,
    ) -> Done:
        def write() -> None:
            table.write_video(video.id, texts, boxes)
            writer.write_video(video.id, tracks)

        context.progress.advance(1, len(video))
        return Done(len(video), write, {"tracks": len(tracks), "objects": objects})

    with (
        CandidateWriter(candidates_path, job.fingerprint) as candidates,
        GroundWriter(boxes_path) as table,
        TrackWriter(paths.part("track", shard)) as writer,
        _feed(job, context, outcome, meter) as feed,
    ):
        each_video(context, job.shard, outcome, work, meter, feed.video)


def _frames_of(context: RunContext, video: VideoRef) -> Callable[[Sequence[int]], Iterator[Image]]:
    """Returns what reads the frames of a video at some positions, in their order."""
    reader = context.reader()

    def read(positions: Sequence[int]) -> Iterator[Image]:
        for start in range(0, len(positions), READ_AHEAD):
            part = positions[start : start + READ_AHEAD]
            images = {at: reader.frame(video, FrameIndex(at)) for at in sorted(part)}
            for at in part:
                yield images.pop(at)

    return read
