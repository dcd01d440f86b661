"""The work of each stage on one shard: a reader, a stage, a product, video by video.

A video that cannot be worked on is set aside with its reason and the rest goes on. Memory holds
one video at a time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flows.inputs import (
    annotated_boxes,
    no_boxes,
    others_of,
    pick_frames,
    texts_of,
    with_siblings,
)
from flows.paths import SHARD_STAGES
from flows.receipts import Work, receipted
from flows.shards import Job, Shard
from flows.workshop import Workshop
from pipeline.errors import CheckpointError, InputError, UnknownDatasetError, UnusableAnswerError
from pipeline.ports import DatasetReader, Image
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    FrameIndex,
    FrameQuality,
    Receipt,
    VideoRef,
)
from storage.candidates import CandidateWriter, read_candidates
from storage.hypotheses import HypothesisWriter, read_hypotheses
from storage.ledger import Ledger
from storage.masks import MaskStore
from storage.tables import (
    GroundWriter,
    read_augmentations,
    read_ground,
    write_augmentations,
    write_quality,
)

logger = logging.getLogger(__name__)


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

    def work(video: VideoRef) -> int:
        expressions = reader.expressions(video.id)
        picked = pick_frames(len(video), shop.config.augment.frames)
        needs_frames = shop.config.augment.source in ("model", "endpoint")
        images = [reader.frame(video, index) for index in picked] if needs_frames else []
        requests = [(video, images, item, others_of(item, expressions)) for item in expressions]
        augmentations = captioner.augment(requests)
        if shop.config.augment.siblings:
            kept = shop.config.augment.positives
            augmentations = [with_siblings(item, expressions, kept) for item in augmentations]
        written.extend(augmentations)
        outcome.counts["expressions"] += len(expressions)
        outcome.counts["positives"] += sum(len(item.positives) for item in augmentations)
        outcome.counts["negatives"] += sum(len(item.negatives) for item in augmentations)
        return len(images)

    _each_video(shop, job.shard, skip, outcome, work)
    for reason, count in (Counter(getattr(captioner, "left_out", {})) - before).items():
        outcome.counts[f"left out: {reason}"] += count
    write_augmentations(shop.paths.part("augment", job.shard.name), written)


def _ground(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    reader, config = shop.reader(), shop.config.ground
    augmentations = read_augmentations(shop.paths.part("augment", job.shard.name))

    def work(video: VideoRef) -> int:
        mine = augmentations.get(video.id, [])
        texts = texts_of(mine)
        boxes: list[Boxes] = []
        if config.source == "annotation":
            boxes = annotated_boxes(reader, video, mine, texts)
        elif not texts:
            boxes = no_boxes(len(video))
        else:
            grounder = shop.grounder()
            for images in _batches(reader, video, config.batch_frames):
                boxes += grounder.ground(grounder.embed(images), texts)
                shop.progress.advance(len(images) / len(video), len(images))
        writer.write_video(video.id, texts, boxes)
        outcome.counts["texts"] += len(texts)
        outcome.counts["boxes"] += sum(map(len, boxes))
        return len(video)

    with GroundWriter(shop.paths.part("ground", job.shard.name)) as writer:
        _each_video(shop, job.shard, skip, outcome, work)


def _segment(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    reader, config = shop.reader(), shop.config.segment
    ground = shop.paths.part("ground", job.shard.name)

    def work(video: VideoRef) -> int:
        _, boxes = read_ground(ground, video.id)
        segmenter = shop.segmenter()
        candidates: list[Candidates] = []
        for images in _batches(reader, video, config.batch_frames):
            asked = [item.xyxy for item in boxes[len(candidates) : len(candidates) + len(images)]]
            candidates += segmenter.decode(segmenter.embed(images), asked)
            shop.progress.advance(len(images) / len(video), len(images))
        writer.write_video(video.id, candidates)
        outcome.counts["boxes"] += sum(map(len, boxes))
        outcome.counts["masks"] += sum(map(len, candidates))
        return len(video)

    with CandidateWriter(shop.paths.part("segment", job.shard.name), job.fingerprint) as writer:
        _each_video(shop, job.shard, skip, outcome, work)


def _fuse(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    paths, shard = shop.paths, job.shard.name
    augmentations = read_augmentations(paths.part("augment", shard))

    def work(video: VideoRef) -> int:
        mine = augmentations.get(video.id, [])
        texts, boxes = read_ground(paths.part("ground", shard), video.id)
        candidates = read_candidates(paths.part("segment", shard), video.id)
        hypotheses = []
        for item in mine:
            hypotheses.append(shop.parts.fuse(item, texts, boxes, candidates, shop.config))
            shop.progress.advance(1 / len(mine), len(video))
        writer.write_video(video.id, hypotheses)
        for fused in hypotheses:
            _count_frames(outcome.counts, fused.status, fused.reason)
        return len(video) * len(mine)

    with HypothesisWriter(paths.part("fuse", shard), job.fingerprint) as writer:
        _each_video(shop, job.shard, skip, outcome, work)


def _rank(shop: Workshop, job: Job, skip: Mapping[str, str], outcome: Work) -> None:
    paths = shop.paths
    store = MaskStore(paths.masks)
    texts: dict[tuple[str, str], str] = {
        (item.key.video, item.key.expression): item.original
        for mine in read_augmentations(paths.part("augment", job.shard.name)).values()
        for item in mine
    }
    quality: list[FrameQuality] = []

    def work(video: VideoRef) -> int:
        masks = []
        hypotheses = read_hypotheses(paths.part("fuse", job.shard.name), video.id)
        for item in hypotheses:
            mask, rows = shop.parts.rank(
                item, video.height, video.width, shop.config, job.fingerprint
            )
            masks.append(mask)
            quality.extend(replace(row, frame_name=video.frames[row.frame]) for row in rows)
            _count_frames(outcome.counts, mask.status, [row.reason for row in rows])
            shop.progress.advance(1 / len(hypotheses), len(video))
        sentences = [texts[video.id, mask.key.expression] for mask in masks]
        store.write_video(video, sentences, masks)
        return len(video) * len(masks)

    _each_video(shop, job.shard, skip, outcome, work)
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


def _each_video(
    shop: Workshop,
    shard: Shard,
    skip: Mapping[str, str],
    outcome: Work,
    work: Callable[[VideoRef], int],
) -> None:
    """Works on the videos of a shard; ``work`` says how many frames it went through."""
    reader = shop.reader()
    for video_id in shard.videos:
        counted = _Counted(shop)
        try:
            if video_id not in skip:
                outcome.counts["frames"] += work(reader.video(video_id))
                outcome.counts["videos"] += 1
        except (CheckpointError, UnknownDatasetError):
            raise
        except (InputError, UnusableAnswerError) as error:
            logger.warning("video %s is set aside: %s", video_id, error)
            outcome.set_aside[video_id] = str(error)
        finally:
            counted.close()


class _Counted:
    """Tops the progress of a video up to the whole video when it is closed."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._real = shop.progress
        self._done = 0.0
        shop.progress = self

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._real.begin(stage, total, unit)

    def advance(self, amount: float, frames: int = 0) -> None:
        self._done += amount
        self._real.advance(amount, frames)

    def end(self, note: str = "") -> None:
        self._real.end(note)

    def say(self, text: str) -> None:
        self._real.say(text)

    def close(self) -> None:
        self._shop.progress = self._real
        self._real.advance(1 - self._done)


def _set_aside_before(ledger: Ledger, job: Job) -> dict[str, str]:
    """Videos that an earlier stage set aside in this shard."""
    reasons: dict[str, str] = {}
    for stage in SHARD_STAGES[: SHARD_STAGES.index(job.stage)]:
        receipt = ledger.receipt(stage, job.shard.name)
        if receipt is not None:
            reasons.update(receipt.set_aside)
    return reasons


def _batches(reader: DatasetReader, video: VideoRef, size: int) -> Iterator[list[Image]]:
    """A video's frames, ``size`` at a time; the next batch is decoded while one is worked on."""

    def decode(start: int) -> list[Image]:
        stop = min(start + size, len(video))
        return [reader.frame(video, FrameIndex(index)) for index in range(start, stop)]

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(decode, 0)
        for start in range(size, len(video), size):
            batch = coming.result()
            coming = ahead.submit(decode, start)
            yield batch
        yield coming.result()


def _count_frames(counts: Counter[str], status: NDArray[np.uint8], reasons: Sequence[str]) -> None:
    for value, reason in zip(status, reasons, strict=True):
        counts["present" if value == 1 else "absent" if value == 2 else "unknown"] += 1
        if value != 1 and reason:
            counts[f"turned down: {reason}"] += 1
