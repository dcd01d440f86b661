"""What the options that save work in `ground` and `segment` save, and what they cost on `shapes`.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.shortcuts [--videos 8] [--json]

One run with the demo models over videos of the `valid` split, then the same with one option
changed at a time: boxes merged only where equal, fewer and more sentences a pass, key frames. For
each: CPU seconds of the two stages against the run as it is by default, how well the best box of
every sentence agrees with that run's, and J&F against the truth. No Prefect.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from flows.context import RunContext
from flows.dataset import prepare_dataset
from flows.labelling.jobs import do_job
from flows.planning.plan import Plan
from flows.planning.stages import ALL, shard_stages_of
from pipeline.config import RunConfig, load_config
from pipeline.geometry import box_iou
from pipeline.types import Boxes
from storage.tables import ground_videos, read_ground

VARIANTS: dict[str, tuple[str, ...]] = {
    "as it is": (),
    "segment.merge_iou=1": ("segment.merge_iou=1.0",),
    "ground.joint=1": ("ground.joint=1",),
    "ground.joint=12": ("ground.joint=12",),
    "ground.joint=16": ("ground.joint=16",),
    "ground.joint=32": ("ground.joint=32",),
    "ground.every=2": ("ground.every=2",),
    "ground.every=3": ("ground.every=3",),
    "ground.every=4": ("ground.every=4",),
}

Found = dict[str, tuple[tuple[str, ...], list[Boxes]]]


def run(config: RunConfig) -> tuple[dict[str, float], Found, dict[str, Any]]:
    """CPU seconds of each stage that was due, the boxes, and the figures against truth."""
    context = RunContext(config)
    context.plan = context.make_plan()
    stages = shard_stages_of(config)
    seconds = dict.fromkeys(stages, 0.0)
    for stage in stages:
        for job in context.plan.jobs[stage]:
            if not job.done:
                start = time.process_time()
                do_job(job, context)
                seconds[stage] += time.process_time() - start
        context.release()
    for stage in ("merge", "evaluate"):
        do_job(context.plan.job(stage, ALL), context)
    metrics = json.loads(context.paths.metrics.read_text())["pseudo_masks"]
    return seconds, _boxes(context, context.plan), metrics


def _boxes(context: RunContext, plan: Plan) -> Found:
    paths = [context.paths.part("ground", shard.name) for shard in plan.shards]
    return {video: read_ground(path, video) for path in paths for video in ground_videos(path)}


def agreement(found: Found, base: Found) -> tuple[float, float]:
    """Mean IoU of each sentence's best box with the base's, a box that is not there counting 0, and
    the share with an IoU of at least 0.5."""
    overlaps: list[float] = []
    for video, (texts, frames) in base.items():
        assert found[video][0] == texts
        for mine, theirs in zip(found[video][1], frames, strict=True):
            for row in np.flatnonzero(theirs.rank == 0):
                own = mine.xyxy[(mine.text == theirs.text[row]) & (mine.rank == 0)]
                iou = box_iou(theirs.xyxy[row : row + 1], own)
                overlaps.append(float(iou.max(initial=0.0)))
    values = np.array(overlaps)
    return float(values.mean()), float((values >= 0.5).mean())


def measure(videos: int, variants: dict[str, tuple[str, ...]] = VARIANTS) -> list[dict[str, Any]]:
    """A row a variant; the first is what the others are held against."""
    rows: list[dict[str, Any]] = []
    base: Found = {}
    with tempfile.TemporaryDirectory() as name:
        for variant, words in variants.items():
            options = [f'out="{Path(name)}"', "dataset.split=valid", "device=cpu"]
            options += ["shapes.train_videos=1", f"shapes.valid_videos={videos}"]
            config = load_config(None, [*options, "student.enabled=false", *words])
            prepare_dataset(config, partial(print, file=sys.stderr))
            seconds, found, metrics = run(config)
            base = base or found
            mean, half = agreement(found, base)
            rows.append(
                {
                    "variant": variant,
                    "ground": seconds["ground"],
                    "segment": seconds["segment"],
                    "mean IoU of the best boxes": mean,
                    "share of them at 0.5": half,
                    "J&F": metrics["overall"]["J&F"],
                    "J&F, dropped as misses": metrics["overall_with_dropped_as_misses"]["J&F"],
                }
            )
    return rows


def main(
    videos: Annotated[int, typer.Option(min=1)] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text")] = False,
) -> None:
    rows = measure(videos)
    if as_json:
        typer.echo(json.dumps({"videos": videos, "rows": rows}, indent=2))
        return
    print(f"{videos} videos of shapes; CPU seconds (0 where a stage need not be done again)")
    print(f"{'':22} ground segment  box IoU  at 0.5    J&F  with misses")
    for row in rows:
        print(
            f"  {row['variant']:20} {row['ground']:6.1f} {row['segment']:7.1f}"
            f"  {row['mean IoU of the best boxes']:7.4f} {row['share of them at 0.5']:7.4f}"
            f"  {row['J&F']:5.2f}  {row['J&F, dropped as misses']:5.2f}"
        )


if __name__ == "__main__":
    typer.run(main)
