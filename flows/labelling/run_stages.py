"""Stages of the whole run, once its shards are done: merge, student, evaluate, report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from flows.context import Workshop
from flows.evaluation.mask_sources import BaselineMasks, StoredMasks
from flows.evaluation.scores import SampleScore, left_out, score_each, summarise
from flows.planning.plan import Plan
from flows.planning.receipts import receipted
from flows.planning.run_paths import ALL, SHARD_STAGES, STAGES
from flows.training.build import prediction_split, student_is_done
from pipeline.errors import InputError
from pipeline.types import Receipt
from storage.arrays.masks import MaskStore
from storage.files.atomic import replace_file
from storage.run.ledger import Ledger
from storage.tables import merge_quality


def finish_stage(shop: Workshop, stage: str, fingerprint: str) -> Receipt:
    """Does a stage of the whole run and commits its receipt, last."""
    ledger = Ledger(shop.config.run_folder)
    plan = _plan(shop)
    reads = ([name for name in STAGES if plan.jobs.get(name)], finished_shards(shop))
    videos = tuple(video for shard in plan.run_shards for video in shard.videos)
    basis = plan.job(stage, ALL).basis
    with receipted(shop.paths, stage, ALL, fingerprint, videos, basis, reads) as done:
        try:
            counts = _WORK[stage](shop)
        finally:
            shop.release()
        counts["videos"] = len(videos) - len(_set_aside(shop, ledger))
        done.counts = counts
    assert done.receipt is not None
    return done.receipt


def sample_markdown(shop: Workshop) -> str:
    """A page of a few overlays for the Prefect UI; empty where there is nothing to show."""
    from flows.report.samples import markdown_page

    return markdown_page(shop)


def finished_shards(shop: Workshop, stage: str = "rank") -> list[str]:
    """Names of the run's shards that a stage has a receipt for."""
    ledger = Ledger(shop.config.run_folder)
    shards = _plan(shop).run_shards
    return [s.name for s in shards if ledger.receipt(stage, s.name) is not None]


def _set_aside(shop: Workshop, ledger: Ledger) -> set[str]:
    """Videos of the run's shards that some stage set aside."""
    return {
        video
        for shard in _plan(shop).run_shards
        for stage in SHARD_STAGES
        if (receipt := ledger.receipt(stage, shard.name)) is not None
        for video in receipt.set_aside
    }


def _merge(shop: Workshop) -> Counter[str]:
    """Joins the quality tables and drops masks that no receipt stands for: of videos that the
    data set no longer has, and what a rank that failed left behind.
    """
    names = finished_shards(shop)
    rows = merge_quality([shop.paths.part("rank", name) for name in names], shop.paths.quality)
    receipts = Ledger(shop.config.run_folder).receipts("rank")
    kept = {video for receipt in receipts for video in receipt.videos}
    store = MaskStore(shop.paths.masks)
    store.ensure_root()
    stale = [video for video in store.videos() if video not in kept]
    for video in stale:
        store.remove_video(video)
    return Counter({"rows": rows, "videos removed": len(stale)})


def _student(shop: Workshop) -> Counter[str]:
    from flows.training.train import train_and_predict

    return train_and_predict(shop, prediction_split(shop))


def _evaluate(shop: Workshop) -> Counter[str]:
    """Writes metrics.json."""
    plan, paths = _plan(shop), shop.paths
    done = set(finished_shards(shop))
    videos = [video for shard in plan.run_shards for video in shard.videos]
    parts = {
        video: (
            paths.part("augment", shard.name),
            paths.part("ground", shard.name),
            paths.part("segment", shard.name),
        )
        for shard in plan.run_shards
        if shard.name in done
        for video in shard.videos
    }
    student = student_is_done(paths, plan)
    labelled = shop.config.dataset.split
    predicted = prediction_split(shop) if student else labelled
    asked = {labelled: videos}
    if predicted != labelled:
        asked[predicted] = list(shop.reader(predicted).video_ids())
    passes = Counter([labelled, labelled, *([predicted] if student else [])])
    shop.progress.begin("evaluate", sum(map(len, asked.values())), "videos")
    counts: Counter[str] = Counter()
    told: set[str] = set()

    def figures(split: str, masks: Any) -> dict[str, Any] | None:
        scores: list[SampleScore] = []
        for video, found in score_each(shop.reader(split), asked[split], masks):
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
            shop.progress.advance(1 / passes[split], frames)
        return summarise(scores)

    own = StoredMasks(paths.masks)
    metrics = {
        "pseudo_masks": figures(
            labelled, lambda video, item: own(video, item) if video.id in parts else None
        ),
        "baseline": figures(labelled, BaselineMasks(parts)),
        "student": figures(predicted, StoredMasks(paths.predictions)) if student else None,
    }
    with replace_file(paths.metrics, "w") as file:
        json.dump(metrics, file, indent=2, allow_nan=False)
        file.write("\n")
    shop.progress.end()
    if told:
        counts["videos not measured"] = len(told)
    return counts


def _report(shop: Workshop) -> Counter[str]:
    from flows.report import write_report

    return write_report(shop)


_WORK: Mapping[str, Callable[[Workshop], Counter[str]]] = {
    "merge": _merge,
    "student": _student,
    "evaluate": _evaluate,
    "report": _report,
}


def _plan(shop: Workshop) -> Plan:
    assert shop.plan is not None, "a run needs a plan"
    return shop.plan
