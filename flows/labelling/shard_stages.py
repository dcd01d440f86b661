"""The work of each stage on one shard: a reader, a stage, a product, video by video.

A video that cannot be worked on is set aside with its reason and the rest goes on. Frames are
decoded ahead and results written behind (``prefetch.py``); memory holds what a few videos come to,
however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from flows.context import Workshop
from flows.labelling.prefetch import FrameFeed
from flows.labelling.stage_inputs import (
    annotated_boxes,
    no_boxes,
    others_of,
    pick_frames,
    texts_of,
    with_siblings,
)
from flows.labelling.videos import Done, Later, each_video
from flows.planning.plan import Job, Shard
from flows.planning.receipts import Work, receipted
from flows.planning.run_paths import SHARD_STAGES
from flows.timing import BUSY, FRAMES, Meter
from pipeline.types import (
    Augmentation,
    Boxes,
    FrameIndex,
    FrameQuality,
    Receipt,
    VideoRef,
)
from stages.ground.key_frames import fill_between, key_frames
from storage.arrays.candidates import CandidateWriter, StoredCandidates
from storage.arrays.hypotheses import HypothesisWriter, StoredHypotheses
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import (
    GroundWriter,
    read_augmentations,
    read_ground,
    write_augmentations,
    write_quality,
)


def do_shard(shop: Workshop, job: Job) -> Receipt:
    """Does one stage on one shard and commits its receipt, last.

    Raises:
        PseudoLabelError: the stage cannot go on; the ledger notes it, and has no receipt.
    """
    ledger = Ledger(shop.config.run_folder)
    name, videos = job.shard.name, job.shard.videos
    reads = (SHARD_STAGES, ())
    with receipted(shop.paths, job.stage, name, job.fingerprint, videos, job.basis, reads) as done:
        _WORK[job.stage](shop, job, _set_aside_before(ledger, job), done)
    assert done.receipt is not None
    return done.receipt


def _augment(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    reader = shop.reader()
    captioner = shop.captioner()
    before = Counter(getattr(captioner, "left_out", {}))
    written: list[Augmentation] = []
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        expressions = reader.expressions(video.id)
        picked = pick_frames(len(video), shop.config.augment.frames)
        needs_frames = shop.config.augment.source in ("model", "endpoint")
        with meter.measure(FRAMES):
            images = [reader.frame(video, index) for index in picked] if needs_frames else []
        requests = [(video, images, item, others_of(item, expressions)) for item in expressions]
        with meter.measure(BUSY):
            augmentations = captioner.augment(requests)
        if shop.config.augment.siblings:
            kept = shop.config.augment.positives
            augmentations = [with_siblings(item, expressions, kept) for item in augmentations]
        counts = {
            "expressions": len(expressions),
            "positives": sum(len(item.positives) for item in augmentations),
            "negatives": sum(len(item.negatives) for item in augmentations),
        }
        return Done(len(images), partial(written.extend, augmentations), counts)

    each_video(shop, job.shard, skip, outcome, work, meter)
    for reason, count in (Counter(getattr(captioner, "left_out", {})) - before).items():
        outcome.counts[f"left out: {reason}"] += count
    write_augmentations(shop.paths.part("augment", job.shard.name), written)


def _ground(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    reader, config = shop.reader(), shop.config.ground
    augmentations = read_augmentations(shop.paths.part("augment", job.shard.name))
    meter = Meter()

    def pick(video: VideoRef) -> Sequence[FrameIndex]:
        wanted = config.source == "model" and texts_of(augmentations.get(video.id, []))
        return _key_frames(video, config.every) if wanted else ()

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts = texts_of(mine)
        boxes: list[Boxes] = []
        keys = None
        if config.source == "annotation":
            boxes = annotated_boxes(reader, video, mine, texts)
        elif not texts:
            boxes = no_boxes(len(video))
        else:
            grounder, seen = shop.grounder(), _key_frames(video, config.every)
            for images in feed.batches(video):
                with meter.measure(BUSY):
                    boxes += grounder.ground(grounder.embed(images), texts)
                shop.progress.advance(len(images) / len(seen), len(images))
            if len(seen) < len(video):
                keys, boxes = seen, fill_between(seen, boxes)
        counts = {"texts": len(texts), "boxes": sum(map(len, boxes))}
        counts |= {} if keys is None else {"key frames": len(keys)}
        return Done(len(video), partial(writer.write_video, video.id, texts, boxes, keys), counts)

    with (
        GroundWriter(shop.paths.part("ground", job.shard.name)) as writer,
        _feed(shop, job.shard, skip, pick, config.batch_frames, meter) as feed,
    ):
        each_video(shop, job.shard, skip, outcome, work, meter, feed.video)


def _segment(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    config = shop.config.segment
    ground = shop.paths.part("ground", job.shard.name)
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        _, boxes = read_ground(ground, video.id)
        segmenter = shop.segmenter()
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
                shop.progress.advance(len(images) / len(video), len(images))
        except Exception:
            later(partial(writer.remove_video, video.id))
            raise
        return Done(len(video), stream.finish, {"boxes": sum(map(len, boxes)), "masks": masks})

    with (
        CandidateWriter(shop.paths.part("segment", job.shard.name), job.fingerprint) as writer,
        _feed(shop, job.shard, skip, _all_frames, config.batch_frames, meter) as feed,
    ):
        each_video(shop, job.shard, skip, outcome, work, meter, feed.video)


def _fuse(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    paths, shard = shop.paths, job.shard.name
    augmentations = read_augmentations(paths.part("augment", shard))
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        mine = augmentations.get(video.id, [])
        texts, boxes = read_ground(paths.part("ground", shard), video.id)
        candidates = StoredCandidates(paths.part("segment", shard), video.id)
        stream = writer.start_video(video.id)
        counts: Counter[str] = Counter()
        for item in mine:
            with meter.measure(BUSY):
                fused = shop.parts.fuse(item, texts, boxes, candidates, shop.config)
            _count_frames(counts, fused.status, fused.reason)
            later(partial(stream.append, fused))
            shop.progress.advance(1 / len(mine), len(video))
        return Done(len(video) * len(mine), stream.finish, counts)

    with HypothesisWriter(paths.part("fuse", shard), job.fingerprint) as writer:
        each_video(shop, job.shard, skip, outcome, work, meter)


def _rank(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    paths = shop.paths
    store = MaskStore(paths.masks)
    texts: dict[tuple[str, str], str] = {
        (item.key.video, item.key.expression): item.original
        for mine in read_augmentations(paths.part("augment", job.shard.name)).values()
        for item in mine
    }
    quality: list[FrameQuality] = []
    meter = Meter()

    def work(video: VideoRef, later: Later) -> Done:
        masks, mine = [], []
        counts: Counter[str] = Counter()
        hypotheses = StoredHypotheses(paths.part("fuse", job.shard.name), video.id)
        for item in hypotheses:
            with meter.measure(BUSY):
                mask, rows = shop.parts.rank(
                    item, video.height, video.width, shop.config, job.fingerprint
                )
            masks.append(mask)
            mine += [replace(row, frame_name=video.frames[row.frame]) for row in rows]
            _count_frames(counts, mask.status, [row.reason for row in rows])
            shop.progress.advance(1 / len(hypotheses), len(video))
        sentences = [texts[video.id, mask.key.expression] for mask in masks]

        def write() -> None:
            store.write_video(video, sentences, masks)
            quality.extend(mine)

        return Done(len(video) * len(masks), write, counts)

    each_video(shop, job.shard, skip, outcome, work, meter)
    for video_id in (*skip, *outcome.set_aside):
        store.remove_video(video_id)
    write_quality(paths.part("rank", job.shard.name), quality)


_WORK: Mapping[str, Callable[[Workshop, Job, Mapping[str, str], Work], None]] = {
    "augment": _augment,
    "ground": _ground,
    "segment": _segment,
    "fuse": _fuse,
    "rank": _rank,
}


def _set_aside_before(ledger: Ledger, job: Job) -> dict[str, str]:
    """Videos that an earlier stage set aside in this shard."""
    reasons: dict[str, str] = {}
    for stage in SHARD_STAGES[: SHARD_STAGES.index(job.stage)]:
        receipt = ledger.receipt(stage, job.shard.name)
        if receipt is not None:
            reasons.update(receipt.set_aside)
    return reasons


def _feed(
    shop: Workshop,
    shard: Shard,
    skip: Collection[str],
    pick: Callable[[VideoRef], Sequence[FrameIndex]],
    size: int,
    meter: Meter,
) -> FrameFeed:
    """The frames of the videos of a shard that are worked on."""
    videos = [video for video in shard.videos if video not in skip]
    runner = shop.config.runner
    return FrameFeed(
        shop.reader(), videos, pick, size, runner.decode_workers, runner.batches_ahead, meter
    )


def _key_frames(video: VideoRef, every: int) -> Sequence[FrameIndex]:
    return [FrameIndex(index) for index in key_frames(len(video), every)]


def _all_frames(video: VideoRef) -> Sequence[FrameIndex]:
    return [FrameIndex(index) for index in range(len(video))]


def _count_frames(counts: Counter[str], status: NDArray[np.uint8], reasons: Sequence[str]) -> None:
    for value, reason in zip(status, reasons, strict=True):
        counts["present" if value == 1 else "absent" if value == 2 else "unknown"] += 1
        if value != 1 and reason:
            counts[f"turned down: {reason}"] += 1
