"""Stage ``rank`` on a shard: pseudo-masks and a row of quality for every frame."""

from __future__ import annotations

from collections import Counter

from flows.context import RunContext
from flows.labelling.videos import Done, Later, count_frames, each_video
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.timing import BUSY, Meter
from pipeline.types import FrameQuality, VideoRef
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.arrays.masks import MaskStore
from storage.tables import read_augmentations, write_quality


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the masks of a shard into the run's store, and the shard's quality table."""
    paths = context.paths
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
        candidates = StoredCandidates(paths.candidates(job.shard.name), video.id)
        for item in hypotheses:
            with meter.measure(BUSY):
                mask, rows = context.parts.rank(
                    item, candidates, video, context.config, job.fingerprint
                )
            masks.append(mask)
            mine += rows
            count_frames(counts, mask.status, [row.reason for row in rows])
            context.progress.advance(1 / len(hypotheses), len(video))
        sentences = [texts[video.id, mask.key.expression] for mask in masks]

        def write() -> None:
            store.write_video(video, sentences, masks)
            quality.extend(mine)

        return Done(len(video) * len(masks), write, counts)

    each_video(context, job.shard, outcome, work, meter)
    for video_id in (*outcome.skipped_before, *outcome.skipped):
        store.remove_video(video_id)
    write_quality(paths.part("rank", job.shard.name), quality)
