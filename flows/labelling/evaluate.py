"""Stage ``evaluate`` of a run: ``metrics.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from flows.context import Workshop
from flows.evaluation.mask_sources import StoredMasks
from flows.evaluation.scores import SampleMasks, SampleScore, left_out, score_each, summarise
from flows.finished_results import student_is_done
from flows.labelling.baseline import BaselineMasks
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from pipeline.errors import InputError
from storage.files.atomic import replace_file


def run(job: Job, shop: Workshop, outcome: Outcome) -> None:
    """Measures the masks, the plain baseline and the student against ground truth."""
    plan, paths = shop.the_plan, shop.paths
    done = set(shop.finished_shards())
    shard_of = {
        video: shard.name
        for shard in plan.run_shards
        if shard.name in done
        for video in shard.videos
    }
    videos = [video for shard in plan.run_shards for video in shard.videos]
    student = student_is_done(paths, plan)
    predicted = list(shop.reader(shop.prediction_split()).video_ids()) if student else []
    shop.progress.begin("evaluate", 2 * len(videos) + len(predicted), "videos")
    told: set[str] = set()
    own = StoredMasks(paths.masks)

    def metrics_of(
        split: str | None, ids: Sequence[str], masks: SampleMasks
    ) -> dict[str, Any] | None:
        scores, counts = _scores(shop, split, ids, masks, told)
        outcome.counts.update(counts)
        return summarise(scores)

    metrics = {
        "pseudo_masks": metrics_of(
            None, videos, lambda video, item: own(video, item) if video.id in shard_of else None
        ),
        "baseline": metrics_of(None, videos, BaselineMasks(paths, shard_of)),
        "student": (
            metrics_of(shop.prediction_split(), predicted, StoredMasks(paths.predictions))
            if student
            else None
        ),
    }
    with replace_file(paths.metrics, "w") as file:
        json.dump(metrics, file, indent=2, allow_nan=False)
        file.write("\n")
    shop.progress.end()
    if told:
        outcome.counts["videos not measured"] = len(told)


def _scores(
    shop: Workshop, split: str | None, ids: Sequence[str], masks: SampleMasks, told: set[str]
) -> tuple[list[SampleScore], Counter[str]]:
    """Scores of the samples of some videos. A video that cannot be read is told of once."""
    scores: list[SampleScore] = []
    counts: Counter[str] = Counter()
    for video, found in score_each(shop.reader(split), ids, masks):
        frames = 0
        if isinstance(found, InputError):
            line = left_out(video, found)
            if line not in told:
                shop.progress.say(line, "yellow")
            told.add(line)
        else:
            scores += [score for _, score in found]
            frames = sum(score.frames for _, score in found)
        counts["frames"] += frames
        shop.progress.advance(1, frames)
    return scores, counts
