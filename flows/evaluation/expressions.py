"""``evaluate refytvos`` and ``evaluate mevis``: J and F of every expression that has truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flows.evaluation.result import Result, by_video, mean
from pipeline.metrics import contour_accuracy, region_similarity
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets import open_dataset
from storage.predictions import PredictionTree


def evaluate_expressions(predictions: Path, dataset: str, root: Path, split: str) -> Result:
    """A submission, ``<video>/<expression>/<frame>.png`` of binary masks, against truth.

    Means over the frames of an expression, then over expressions. Whatever is missing counts 0, a
    frame, an expression or a whole video, also where the truth is empty, as on the servers. A file
    that is broken or of another size counts as missing. Any value but 0 is inside the mask.

    Args:
        predictions: a folder or a zip, with or without the top folder ``Annotations``.
        dataset: ``refytvos``, ``mevis`` or another reader with truth.

    Raises:
        InputError: the data set is missing or broken, or has no truth for this split.
    """
    reader = open_dataset(dataset, root, split)
    videos = list(reader.video_ids())
    tree = PredictionTree(predictions, videos)
    rows: list[dict[str, Any]] = []
    without_truth = 0
    for video_id in videos:
        video, expressions = reader.video(video_id), reader.expressions(video_id)
        names = {item.key.expression for item in expressions}
        for stray in sorted(tree.names(video_id) - names):
            tree.problems.append(f"{video_id}/{stray}: not an expression of the video; left out")
        for expression in expressions:
            row = _score(reader, tree, video, expression)
            if row is None:
                without_truth += 1
            else:
                rows.append(row)
    problems = list(tree.problems)
    if without_truth:
        problems.append(f"{without_truth} expressions have no truth in this split; left out")
    j, f = mean([row["J"] for row in rows]), mean([row["F"] for row in rows])
    return Result(
        title=f"{dataset}, {split}",
        systems={"predictions": {"J&F": (j + f) / 2, "J": j, "F": f}},
        sequences=by_video(rows),
        expressions=rows,
        problems=problems,
        counts={"videos": len({row["video"] for row in rows}), "expressions": len(rows)},
    )


def _score(
    reader: DatasetReader, tree: PredictionTree, video: VideoRef, expression: Expression
) -> dict[str, Any] | None:
    """The row of one expression; None where no frame of it has truth."""
    name = expression.key.expression
    truths = [reader.truth(video, expression, FrameIndex(t)) for t in range(len(video))]
    if all(truth is None for truth in truths):
        return None
    ids, there = tree.clip([video.id, name], video.frames, (video.height, video.width))
    js, fs = [], []
    for frame, truth in enumerate(truths):
        if truth is None:
            continue
        mask = ids[frame] > 0
        js.append(float(region_similarity(mask, truth)) if there[frame] else 0.0)
        fs.append(float(contour_accuracy(mask, truth)) if there[frame] else 0.0)
    j, f = float(np.mean(js)), float(np.mean(fs))
    return {
        "video": video.id,
        "expression": name,
        "text": expression.text,
        "frames": len(js),
        "J": j,
        "F": f,
        "J&F": (j + f) / 2,
    }
