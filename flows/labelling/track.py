"""Stage ``track`` on a shard: which candidates of a video are one object.

With a video model, it also writes the boxes and candidates that the later stages read in place of
the grounding model's and the segmenter's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from flows.context import RunContext
from flows.labelling.prefetch import FrameFeed, feed_of
from flows.labelling.videos import Done, Later, each_video
from flows.planning.mirrored import remove
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.phrases import noun_phrase
from pipeline.ports import Image
from pipeline.types import Augmentation, Boxes, FrameIndex, Tracks, VideoRef
from storage.arrays.candidates import CandidateWriter, StoredCandidates
from storage.tables import GroundWriter, read_augmentations, read_ground
from storage.track_table import TrackWriter

if TYPE_CHECKING:
    from stages.track.propagation import Propagation

READ_AHEAD = 16
"""Frames that are read at once on the way back: a video file is read fast only forwards."""


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the tracks of a shard, one video at a time."""
    for place in context.paths.followed(job.shard.name):
        remove(place)
    if context.config.track.uses_checkpoint:
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
    from stages.common.cuts import CutFinder

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
    """Follows the objects of every video through all of its frames."""
    from stages.track.objects import evidence_of

    paths, shard, config = context.paths, job.shard.name, context.config.track
    follow = (
        partial(_detected, context, shard)
        if config.source == "sam3"
        else partial(_propagated, context)
    )
    boxes_path, candidates_path = paths.followed(shard)
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        texts, boxes, found, tracks = _associated(job, context, video, meter, feed)
        with meter.measure(BUSY):
            made, tracks = follow(video, len(texts), boxes, found, tracks)
        if made is None:
            candidates.write_video(video.id, list(found))
            return _done(video, texts, boxes, tracks, 0)
        stream = candidates.start_video(video.id)
        evidence = evidence_of(len(texts), boxes, found.scores, tracks)
        try:
            with closing(made) as followed, meter.measure(BUSY):
                for item in followed.candidates(boxes, found, tracks, evidence, config):
                    stream.append([item])
        except Exception:
            candidates.remove_video(video.id)
            raise
        stream.finish()
        return _done(video, texts, followed.boxes, followed.tracks(), len(followed))

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


def _propagated(
    context: RunContext,
    video: VideoRef,
    sentences: int,
    boxes: Sequence[Boxes],
    found: StoredCandidates,
    tracks: Tracks,
) -> tuple[Propagation | None, Tracks]:
    """Follows the tracks of a video from their surest boxes; None if it has none.

    Returns:
        The objects, and the tracks, which stay as they are.
    """
    from stages.track.objects import choose_objects, evidence_of
    from stages.track.propagation import Propagation

    config = context.config.track
    evidence = evidence_of(sentences, boxes, found.scores, tracks)
    objects = choose_objects(boxes, found.scores, tracks, evidence, config)
    if not objects:
        return None, tracks
    made = Propagation(objects, len(video), (video.height, video.width), _cells(found))
    try:
        made.follow(context.tracker(), _frames_of(context, video), config.same_mask_iou)
    except Exception:
        made.close()
        raise
    return made, tracks


def _detected(
    context: RunContext,
    shard: str,
    video: VideoRef,
    sentences: int,
    boxes: Sequence[Boxes],
    found: StoredCandidates,
    tracks: Tracks,
) -> tuple[Propagation | None, Tracks]:
    """Finds and follows the objects that the sentences of a video name; None without any.

    Returns:
        The objects, and the tracks, those of one object joined.
    """
    from stages.track.detection import Detection

    config, augmented = context.config.track, context.paths.part("augment", shard)
    phrases = phrases_of(read_augmentations(augmented)[video.id])
    if not phrases or not len(tracks):
        return None, tracks
    made = Detection(len(video), (video.height, video.width), _cells(found))
    try:
        frames = _frames_of(context, video)(range(len(video)))
        made.detect(context.phrase_tracker(), frames, phrases)
        tracks = made.matched(found, tracks, config)
        made.compare(config.same_mask_iou)
    except Exception:
        made.close()
        raise
    return made, tracks


def phrases_of(said: Sequence[Augmentation]) -> list[str]:
    """Returns the sorts of objects that the expressions of a video name, sorted.

    They come from the model of ``augment``. Where it gave none, rules take one from the expression.
    """
    nouns = (item.noun or noun_phrase(item.original) for item in said)
    return sorted({noun for noun in nouns if noun})


def _cells(found: StoredCandidates) -> tuple[int, int]:
    height, width = next(item.logits.shape[1:] for item in found if len(item))
    return height, width


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
