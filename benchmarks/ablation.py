"""What augmentation, tracks, fusion with its gate, and ranking each add to the masks of a run.

    .venv/bin/python -m benchmarks.ablation [--config FILE] [section.key=value ...]

Works from the run's stored texts, boxes and candidates; no model runs. Every row is scored on the
same samples. Figures in percent; "misses" counts dropped frames that hold the target as 0. The row
"best candidate" takes the stored mask that the ground truth overlaps most: no choice does better.
A judge is asked about sentences with a margin below ``judge.below``: the stand-in of the demo, a
rule; and one that takes the track that the ground truth overlaps most: no judge does better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flows.context import RunContext
from flows.dataset import dataset_root
from flows.evaluation.scores import evaluate, summarise
from flows.planning.run_paths import RunPaths
from pipeline.config import RunConfig, load_config
from pipeline.geometry import pairwise_mask_iou
from pipeline.judgements import JudgeRequest, Ruling
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Expression,
    FrameIndex,
    Status,
    Tracks,
    VideoRef,
)
from stages.baseline import baseline_masks
from stages.common.mask_resolution import mask_above
from stages.fuse import fuse
from stages.fuse.doubt import Doubt, doubt_of
from stages.judge.stand_in import StandIn
from stages.rank import rank
from stages.track import associate
from storage.arrays.candidates import read_candidates
from storage.datasets import open_dataset
from storage.tables import ground_videos, read_augmentations, read_ground

Masks = tuple[NDArray[np.bool_], NDArray[np.uint8]]


@dataclass(frozen=True)
class Stored:
    """What a run has stored of a video, and its ground truth."""

    texts: Sequence[str]
    boxes: Sequence[Boxes]
    candidates: Sequence[Candidates]
    tracks: Tracks
    video: VideoRef
    truth: Callable[[Expression, int], NDArray[np.bool_] | None]


Judged = Callable[[Augmentation, Expression, Stored, Doubt], tuple[int, ...]]
"""Returns the tracks of a doubt that a judge takes."""

System = Callable[[Augmentation, Expression, Stored], Masks]


def system(
    config: RunConfig,
    *,
    level: Literal["track", "frame"] = "track",
    positives: bool = True,
    negatives: bool = True,
    ranking: bool = True,
    judge: Judged | None = None,
) -> System:
    """The pipeline from the boxes on, with parts left out.

    Without positives the original stands alone; without negatives nothing gates but a box's own
    score; without ranking the best instance of every frame is taken. A judge chooses among the
    tracks of sentences that are in doubt.
    """
    fusing = config.fuse.model_copy(update={"level": level})
    options = config.rank.model_copy(update={"enabled": ranking})

    def masks(item: Augmentation, expression: Expression, known: Stored) -> Masks:
        kept = replace(
            item,
            positives=item.positives if positives else item.positives[:1],
            negatives=item.negatives if negatives else (),
        )
        scores = [each.scores for each in known.candidates]
        stored = known.texts, known.boxes, scores, known.tracks, fusing
        ruling = None
        if judge is not None:
            doubt = doubt_of(kept, *stored, config.judge.tracks)
            if doubt.tracks and doubt.margin < config.judge.below:
                chosen = judge(kept, expression, known, doubt)
                ruling = Ruling(chosen, tuple({*doubt.tracks} - {*chosen}), 1.0)
        found = fuse(kept, *stored, ruling)
        mask, _ = rank(found, known.candidates, known.video, options, "")
        return np.asarray(mask.mask), mask.status

    return masks


def stand_in(
    item: Augmentation, expression: Expression, known: Stored, doubt: Doubt
) -> tuple[int, ...]:
    """What the rule takes that stands in for a model in the demo."""
    numbers = range(1, len(doubt.tracks) + 1)
    request = JudgeRequest(item.key, item.original, (), numbers, doubt.scores)
    [reply] = StandIn(0).ask([request])
    return tuple(doubt.tracks[number - 1] for number in reply.chosen or ())


def perfect(
    item: Augmentation, expression: Expression, known: Stored, doubt: Doubt
) -> tuple[int, ...]:
    """The track of a doubt that the ground truth overlaps most; none where it overlaps none."""
    total = np.zeros(len(doubt.tracks))
    for index, found in enumerate(known.candidates):
        true = known.truth(expression, index)
        if true is None or not true.any() or not len(found):
            continue
        height, width = true.shape
        logits = torch.from_numpy(found.logits).float()
        masks = np.stack([mask_above(each, height, width, 0.0).numpy() for each in logits])
        overlap = pairwise_mask_iou(masks, true[None])[:, 0]
        for row, track in enumerate(doubt.tracks):
            total[row] += overlap[known.tracks.of_candidate[index] == track].max(initial=0.0)
    return (doubt.tracks[int(total.argmax())],) if total.any() else ()


def plain(item: Augmentation, expression: Expression, known: Stored) -> Masks:
    """The best box of the original sentence in every frame."""
    height, width = known.video.height, known.video.width
    return baseline_masks(
        item, list(known.texts), list(known.boxes), list(known.candidates), height, width
    )


def bound(item: Augmentation, expression: Expression, known: Stored) -> Masks:
    """The candidate of every frame that the ground truth overlaps most; absent where it is."""
    height, width = known.video.height, known.video.width
    mask = np.zeros((len(known.candidates), height, width), np.bool_)
    status = np.full(len(mask), Status.ABSENT, np.uint8)
    for index, found in enumerate(known.candidates):
        true = known.truth(expression, index)
        if true is None or not true.any() or not len(found):
            continue
        logits = torch.from_numpy(found.logits).float()
        all_masks = np.stack([mask_above(each, height, width, 0.0).numpy() for each in logits])
        mask[index] = all_masks[int(pairwise_mask_iou(all_masks, true[None])[:, 0].argmax())]
        status[index] = Status.PRESENT
    return mask, status


def systems(config: RunConfig) -> dict[str, System]:
    """Name -> system: the plain baseline, the pipeline, each part left out, the bound."""
    return {
        "plain baseline": plain,
        "frame level": system(config, level="frame"),
        "track level": system(config),
        "track level, stand-in judge": system(config, judge=stand_in),
        "track level, perfect judge": system(config, judge=perfect),
        "track level without positives": system(config, positives=False),
        "track level without negatives": system(config, negatives=False),
        "track level without ranking": system(config, ranking=False),
        "frame level without positives": system(config, level="frame", positives=False),
        "frame level without negatives": system(config, level="frame", negatives=False),
        "frame level without ranking": system(config, level="frame", ranking=False),
        "best candidate": bound,
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

            video = reader.video(video_id)
            known = Stored(
                texts,
                boxes,
                candidates,
                associate(len(texts), boxes, candidates, config.track),
                video,
                lambda expression, index, video=video: reader.truth(  # type: ignore[misc]
                    video, expression, FrameIndex(index)
                ),
            )

            def masks(video: VideoRef, expression: Expression) -> Masks:
                item = by_id[expression.key.expression]  # noqa: B023 - used within the iteration
                return chosen(item, expression, known)  # noqa: B023

            for _, found in evaluate(reader, [video_id], masks):
                scores += found
    return summarise(scores)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    config: Annotated[Path | None, typer.Option(help="the run's configuration")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
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
