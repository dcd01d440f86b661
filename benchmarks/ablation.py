"""What augmentation, tracks, fusion with its gate, and ranking each add to the masks of a run.

    .venv/bin/python -m benchmarks.ablation RUN [RUN ...] [--true-boxes] [--root DIR] [--json]

Works from the stored texts, boxes and candidates of finished runs, which are only read. Every row
is scored on the same samples. With several runs, such as of several seeds, each figure is the mean
over the runs with its standard deviation, and the tables of the runs follow. Figures in percent;
"misses" counts dropped frames that hold the target as 0. The row "best candidate" takes the stored
mask that the ground truth overlaps most: no choice does better. With ``--true-boxes``, the
segmenter runs: "true box" is its mask of the ground truth's box, which better boxes could give.
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
from rich.markup import escape
from rich.table import Table

from benchmarks.weights import opened
from flows.context import RunContext
from flows.evaluation.metrics_table import figure
from flows.evaluation.scores import evaluate, summarise
from pipeline.config import RunConfig
from pipeline.geometry import masks_to_boxes, pairwise_mask_iou
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
from storage.arrays.candidates import read_candidates
from storage.tables import ground_videos, read_augmentations, read_ground
from storage.track_table import read_tracks

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


def true_box(context: RunContext) -> System:
    """The segmenter's mask of the box of the ground truth; absent where it is."""
    segmenter, reader = context.segmenter(), context.reader()

    def masks(item: Augmentation, expression: Expression, known: Stored) -> Masks:
        height, width = known.video.height, known.video.width
        mask = np.zeros((len(known.candidates), height, width), np.bool_)
        status = np.full(len(mask), Status.ABSENT, np.uint8)
        for index in range(len(mask)):
            true = known.truth(expression, index)
            if true is None or not true.any():
                continue
            embedding = segmenter.embed([reader.frame(known.video, FrameIndex(index))])
            [found] = segmenter.decode(embedding, [masks_to_boxes(true[None])])
            logits = torch.from_numpy(found.logits[0]).float()
            mask[index] = mask_above(logits, height, width, 0.0).numpy()
            status[index] = Status.PRESENT
        return mask, status

    return masks


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


def score(context: RunContext, chosen: System) -> dict[str, Any] | None:
    """Figures of one system over the run's finished videos, as in ``metrics.json``."""
    plan, paths, reader = context.make_plan(remember=False), context.paths, context.reader()
    scores = []
    for shard in plan.shards:
        augmented = read_augmentations(paths.part("augment", shard.name))
        for video_id in ground_videos(paths.boxes(shard.name)):
            by_id = {item.key.expression: item for item in augmented[video_id]}
            texts, boxes = read_ground(paths.boxes(shard.name), video_id)
            video = reader.video(video_id)
            known = Stored(
                texts,
                boxes,
                read_candidates(paths.candidates(shard.name), video_id),
                read_tracks(paths.part("track", shard.name), video_id),
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


KINDS = ("appearance", "place", "motion", "relation")

COLUMNS: dict[str, tuple[str, ...]] = {
    "J&F": ("overall", "J&F"),
    **{kind: ("by_kind", kind, "J&F") for kind in KINDS},
    "misses": ("overall_with_dropped_as_misses", "J&F"),
    "absent found": ("absent_frames_found",),
    "right": ("visible_frames", "right"),
    "wrong object": ("visible_frames", "wrong object"),
    "missed": ("visible_frames", "missed"),
}
"""Title of a column -> the keys of its figure. The last three are shares of the visible frames."""


def wide_console() -> Console:
    """A console in which the tables fit, also in a file."""
    return Console(width=max(Console().width, 150))


def row_of(runs: Sequence[dict[str, Any] | None]) -> list[str]:
    """The cells of a system: the mean over runs of each figure, and its spread if there are
    several."""
    cells = []
    for keys in COLUMNS.values():
        values = [value for run in runs if (value := figure(run, keys)) is not None]
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.1f}{spread}" if values else "–")
    return cells


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    root: Annotated[Path | None, typer.Option(help="The data set, if it was moved.")] = None,
    true_boxes: Annotated[bool, typer.Option(help="Also segment the true boxes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Prints a table over all runs, and one of each run if there are several."""
    found: dict[str, dict[str, dict[str, Any] | None]] = {}
    for folder in runs:
        context = opened(folder, root)
        chosen = systems(context.config)
        if true_boxes:
            chosen["true box"] = true_box(context)
        found[str(folder)] = {name: score(context, each) for name, each in chosen.items()}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    names = list(next(iter(found.values())))
    shown = {f"all {len(runs)} runs": list(found.values())} if len(runs) > 1 else {}
    shown |= {folder: [rows] for folder, rows in found.items()}
    for title, tables in shown.items():
        table = Table("system", *COLUMNS, title=escape(title))
        for name in names:
            table.add_row(name, *row_of([rows[name] for rows in tables]))
        wide_console().print(table)


if __name__ == "__main__":
    typer.run(main)
