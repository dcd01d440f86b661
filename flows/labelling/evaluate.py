"""Stage ``evaluate`` of a run: ``metrics.json``."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from flows.context import RunContext
from flows.evaluation.mask_sources import StoredMasks
from flows.evaluation.scores import SampleMasks, SampleScore, left_out, score_each, summarise
from flows.finished_results import student_is_done
from flows.labelling.baseline import BaselineMasks
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from flows.planning.released import command_to_make_again
from flows.planning.run_paths import RunPaths
from pipeline.errors import InputError
from storage.files.atomic import replace_file


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Measures the masks, the plain baseline and the student against ground truth."""
    plan, paths = context.the_plan, context.paths
    done = set(context.finished_shards())
    shard_of = {
        video: shard.name
        for shard in plan.run_shards
        if shard.name in done
        for video in shard.videos
    }
    videos = [video for shard in plan.run_shards for video in shard.videos]
    student = student_is_done(paths, plan)
    labelled = context.config.dataset.split
    predicted = context.prediction_split() if student else labelled
    asked = {labelled: videos}
    if predicted != labelled:
        asked[predicted] = list(context.reader(predicted).video_ids())
    passes = Counter([labelled, labelled, *([predicted] if student else [])])
    unit = "videos" if len(asked) == 1 else f"videos of {' and '.join(asked)}"
    context.progress.begin("evaluate", sum(map(len, asked.values())), unit)
    told: set[str] = set()
    own = StoredMasks(paths.masks)

    def metrics_of(split: str, masks: SampleMasks) -> dict[str, Any] | None:
        reader, step = context.reader(split), 1 / passes[split]
        scores: list[SampleScore] = []
        for video, found in score_each(reader, asked[split], masks):
            frames = 0
            if isinstance(found, InputError):
                line = left_out(video, found)
                if line not in told:
                    context.progress.say(line, "yellow")
                told.add(line)
            else:
                scores += [score for _, score in found]
                frames = sum(score.frames for _, score in found)
            outcome.counts["frames"] += frames
            context.progress.advance(step, frames)
        return summarise(scores)

    baseline = BaselineMasks(paths, shard_of)
    metrics = {
        "pseudo_masks": metrics_of(
            labelled, lambda video, item: own(video, item) if video.id in shard_of else None
        ),
        "baseline": metrics_of(labelled, baseline),
        "student": metrics_of(predicted, StoredMasks(paths.predictions)) if student else None,
    }
    if baseline.missing:
        # Videos without masks of the baseline would count as its misses.
        metrics["baseline"] = None
        context.progress.say(_no_baseline(paths, baseline.missing), "yellow")
    with replace_file(paths.metrics, "w") as file:
        json.dump(metrics, file, indent=2, allow_nan=False)
        file.write("\n")
    context.progress.end()
    if told:
        outcome.counts["videos not measured"] = len(told)


def _no_baseline(paths: RunPaths, missing: set[str]) -> str:
    return (
        f"{paths.metrics}: no baseline, because the candidates of {len(missing)} videos, such as"
        f' {min(missing)}, were released before they had ground truth (keep="masks"); make them'
        f" again with `{command_to_make_again(paths)}`"
    )
