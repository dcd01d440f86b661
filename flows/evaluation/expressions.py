"""``evaluate refytvos``, ``mevis`` and ``masks``: J, F and more of every expression that has ground
truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.result import Result, by_video, mean
from flows.evaluation.scores import left_out
from flows.evaluation.videos import video_or_truth
from pipeline.errors import InputError
from pipeline.metrics import Overlaps, contour_accuracy, region_similarity
from pipeline.ports import DatasetReader
from pipeline.ranked_precision import RankedOverlaps
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets import open_dataset
from storage.predictions import SCORES, PredictionTree

Mask = NDArray[np.bool_]


@dataclass
class _Measured:
    """What is added up over the frames of all expressions.

    Attributes:
        scores: those beside the masks; None for none.
    """

    scores: PredictionTree | None
    overlaps: Overlaps = field(default_factory=Overlaps)
    ranked: RankedOverlaps = field(default_factory=RankedOverlaps)

    def add(self, parts: Sequence[str], mask: Mask, truth: Mask) -> None:
        """Adds a frame: (video, expression, frame) and its masks."""
        self.overlaps.add(mask, truth)
        if self.scores is not None:
            found = self.scores.scores(parts, truth.shape) if mask.any() else None
            self.ranked.add(0.0 if found is None else float(found[mask].mean()), mask, truth)

    def figures(self) -> dict[str, float]:
        """The figures by the names that tables show."""
        return self.ranked.figures() | self.overlaps.figures().by_name


def evaluate_expressions(predictions: Path, dataset: str, root: Path, split: str) -> Result:
    """A submission, ``<video>/<expression>/<frame>.png`` of binary masks, against ground truth.

    Means over the frames of an expression, then over expressions. Whatever is missing counts 0, a
    frame, an expression or a whole video, also where the ground truth is empty, as on the servers.
    A file that is broken or of another size counts as missing. Any value but 0 is inside the mask.

    Frames are not needed, as on the servers: a video that lacks some is measured by its ground
    truth. One whose ground truth cannot be read is named and left out.

    Where scores lie beside the masks, each frame of an expression is a query with the mean score in
    its mask, and the mean average precision (mAP) is that of all queries.

    Args:
        predictions: a folder or a zip, with or without the top folder ``Annotations``; scores in
            ``Scores``.
        dataset: ``refytvos``, ``mevis`` or another reader with ground truth.

    Raises:
        InputError: the data set is missing or broken, or none of its ground truth can be read.
    """
    reader = open_dataset(dataset, root, split)
    videos = list(reader.video_ids())
    tree = PredictionTree(predictions, videos)
    rows: list[dict[str, Any]] = []
    measured = _Measured(PredictionTree(predictions, videos, SCORES) if tree.has_scores() else None)
    problems: list[str] = []
    errors: list[InputError] = []
    without_truth = 0
    for video_id in videos:
        video = video_or_truth(reader, video_id, problems)
        if isinstance(video, InputError):
            errors.append(video)
            continue
        try:
            expressions = reader.expressions(video_id)
        except InputError as error:
            errors.append(error)
            problems.append(left_out(video_id, error))
            continue
        names = {item.key.expression for item in expressions}
        for stray in sorted(tree.names(video_id) - names):
            tree.problems.append(f"{video_id}/{stray}: not an expression of the video; left out")
        for expression in expressions:
            try:
                row = _score(reader, tree, video, expression, measured)
            except InputError as error:
                errors.append(error)
                problems.append(left_out(f"{video_id}/{expression.key.expression}", error))
                continue
            if row is None:
                without_truth += 1
            else:
                rows.append(row)
    if errors and not rows:
        raise errors[0]
    problems += [*tree.problems, *(measured.scores.problems if measured.scores else ())]
    if without_truth:
        problems.append(f"{without_truth} expressions have no ground truth in this split; left out")
    return Result(
        title=f"{dataset}, {split}",
        systems=_systems(rows, measured, dataset),
        sequences=by_video(rows),
        expressions=rows,
        problems=problems,
        counts={"videos": len({row["video"] for row in rows}), "expressions": len(rows)},
    )


def _systems(
    rows: Sequence[dict[str, Any]], measured: _Measured, dataset: str
) -> dict[str, dict[str, float]]:
    """The figures of all expressions, and of each kind of them, if there are several."""
    names = ("J&F", "J", "F", *(("tIoU", "vIoU") if dataset == "long_rvos" else ()))
    systems = {"predictions": _means(rows, names) | (measured.figures() if rows else {})}
    kinds = dict.fromkeys(row["kind"] for row in rows)
    for kind in kinds if len(kinds) > 1 else ():
        mine = [row for row in rows if row["kind"] == kind]
        systems[kind or "no kind"] = _means(mine, names)
    return systems


def _means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """Means over expressions."""
    return {name: mean([row[name] for row in rows]) for name in names}


def temporal_overlap(j: Sequence[float], pred: Any, truth: Any) -> tuple[float, float]:
    """Returns tIoU and vIoU of Long-RVOS (Liang et al. 2025), 1 where nothing is in any frame.

    Args:
        j: [T], J of each frame.
        pred, truth: bool [T], whether the frame has a mask, and a target.
    """
    either, both = np.logical_or(pred, truth).sum(), np.logical_and(pred, truth)
    if not either:
        return 1.0, 1.0
    return float(both.sum() / either), float(np.asarray(j)[both].sum() / either)


def _score(
    reader: DatasetReader,
    tree: PredictionTree,
    video: VideoRef,
    expression: Expression,
    measured: _Measured,
) -> dict[str, Any] | None:
    """Returns the row of one expression; None where no frame of it has ground truth.

    Args:
        measured: takes up its frames, void pixels left out.
    """
    name = expression.key.expression
    truths = [reader.truth(video, expression, FrameIndex(t)) for t in range(len(video))]
    if all(truth is None for truth in truths):
        return None
    ids, there = tree.clip([video.id, name], video.frames, (video.height, video.width))
    js, fs, shown, there_is = [], [], [], []
    for frame, truth in enumerate(truths):
        if truth is None:
            continue
        mask, void = ids[frame] > 0, reader.void(video, FrameIndex(frame))
        counted = np.True_ if void is None else ~void
        measured.add([video.id, name, video.frames[frame]], mask & counted, truth & counted)
        js.append(float(region_similarity(mask, truth, void)) if there[frame] else 0.0)
        fs.append(float(contour_accuracy(mask, truth, void)) if there[frame] else 0.0)
        shown.append(bool(mask.any()))
        there_is.append(bool(truth.any()))
    in_time, in_volume = temporal_overlap(js, shown, there_is)
    j, f = float(np.mean(js)), float(np.mean(fs))
    return {
        "video": video.id,
        "expression": name,
        "text": expression.text,
        "kind": expression.kind or "",
        "frames": len(js),
        "J": j,
        "F": f,
        "J&F": (j + f) / 2,
        "tIoU": in_time,
        "vIoU": in_volume,
    }
