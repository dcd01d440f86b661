"""What augmentation, fusion with its gate, and ranking each add to the masks of a finished run.

    .venv/bin/python benchmarks/ablation.py --config configs/demo.toml [section.key=value ...]

Works from the run's stored texts, boxes and candidates; no model runs. Every row is scored on the
same samples. Figures in percent; "misses" counts dropped frames that hold the target as 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flows.context import RunContext
from flows.evaluation.scores import evaluate, summarise
from flows.planning.run_paths import RunPaths
from pipeline.config import RunConfig, load_config
from pipeline.types import Augmentation, Boxes, Candidates, Expression, VideoRef
from stages.baseline import baseline_masks
from stages.fuse import fuse
from stages.rank import rank
from storage.arrays.candidates import read_candidates
from storage.datasets import open_dataset
from storage.tables import ground_videos, read_augmentations, read_ground

Masks = tuple[NDArray[np.bool_], NDArray[np.uint8]]
System = Callable[[Augmentation, list[str], list[Boxes], list[Candidates], VideoRef], Masks]


def system(config: RunConfig, *, positives: bool, negatives: bool, ranking: bool) -> System:
    """The pipeline from the boxes on, with parts left out.

    Without positives the original stands alone; without negatives nothing gates but a box's own
    score; without ranking the best instance of every frame is taken.
    """

    def masks(
        item: Augmentation,
        texts: list[str],
        boxes: list[Boxes],
        candidates: list[Candidates],
        video: VideoRef,
    ) -> Masks:
        kept = replace(
            item,
            positives=item.positives if positives else item.positives[:1],
            negatives=item.negatives if negatives else (),
        )
        found = fuse(kept, texts, boxes, candidates, config.fuse)
        options = config.rank.model_copy(update={"enabled": ranking})
        mask, _ = rank(found, candidates, video, options, "")
        return np.asarray(mask.mask), mask.status

    return masks


def plain(
    item: Augmentation,
    texts: list[str],
    boxes: list[Boxes],
    candidates: list[Candidates],
    video: VideoRef,
) -> Masks:
    return baseline_masks(item, texts, boxes, candidates, video.height, video.width)


def systems(config: RunConfig) -> dict[str, System]:
    """Name -> system, from the plain baseline to the whole pipeline, then each part left out."""
    return {
        "plain baseline": plain,
        "ranking alone": system(config, positives=False, negatives=False, ranking=True),
        "positives alone": system(config, positives=True, negatives=False, ranking=False),
        "negatives alone": system(config, positives=False, negatives=True, ranking=False),
        "whole": system(config, positives=True, negatives=True, ranking=True),
        "whole without positives": system(config, positives=False, negatives=True, ranking=True),
        "whole without negatives": system(config, positives=True, negatives=False, ranking=True),
        "whole without ranking": system(config, positives=True, negatives=True, ranking=False),
    }


def score(config: RunConfig, chosen: System) -> dict[str, Any] | None:
    """Figures of one system over the run's finished videos, as in ``metrics.json``."""
    plan, paths = RunContext(config).make_plan(remember=False), RunPaths(config.run_folder)
    assert config.dataset.root is not None
    reader = open_dataset(config.dataset.name, config.dataset.root, config.dataset.split)
    scores = []
    for shard in plan.shards:
        ground = paths.part("ground", shard.name)
        for video_id in ground_videos(ground):
            mine = read_augmentations(paths.part("augment", shard.name))[video_id]
            by_id = {item.key.expression: item for item in mine}
            texts, boxes = read_ground(ground, video_id)
            candidates = read_candidates(paths.part("segment", shard.name), video_id)

            def masks(video: VideoRef, expression: Expression) -> Masks:
                item = by_id[expression.key.expression]  # noqa: B023 - used within the iteration
                return chosen(item, texts, boxes, candidates, video)  # noqa: B023

            for _, found in evaluate(reader, [video_id], masks):
                scores += found
    return summarise(scores)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    config: Annotated[Path | None, typer.Option(help="the run's configuration")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    from flows.context import dataset_root

    resolved = load_config(config, overrides or ())
    dataset = resolved.dataset.model_copy(update={"root": dataset_root(resolved)})
    resolved = resolved.model_copy(update={"dataset": dataset})
    rows = {name: score(resolved, chosen) for name, chosen in systems(resolved).items()}
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    kinds = ("appearance", "place", "motion", "relation")
    table = Table("system", "J&F", *kinds, "unknown", "misses", "absent found")
    for name, found in rows.items():
        if found is None:
            continue
        by_kind = [(found["by_kind"][kind] or {}).get("J&F") for kind in kinds]
        figures = (
            found["overall"] and found["overall"]["J&F"],
            *by_kind,
            found["frames_unknown"],
            found["overall_with_dropped_as_misses"]["J&F"],
            found["absent_frames_found"],
        )
        table.add_row(name, *("–" if value is None else f"{value:.1f}" for value in figures))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
