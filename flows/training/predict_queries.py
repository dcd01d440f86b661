"""Predictions of A2D-Sentences and JHMDB-Sentences as a list of COCO results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.evaluation.queries import Query, queries_of
from flows.progress import Reporter
from pipeline.coco import encode_rle
from pipeline.errors import InputError, PseudoLabelError
from storage.datasets.base import MaskedReader
from storage.files.atomic import replace_file

if TYPE_CHECKING:
    import torch

    from flows.training.predict import How
    from pipeline.ports import DatasetReader
    from stages.student.contract import Student

CATEGORY = 1
"""The one category of all results; evaluations leave categories aside."""


def predict_queries(
    student: Student,
    reader: DatasetReader,
    to: Path,
    how: How,
    device: torch.device,
    progress: Reporter,
) -> dict[str, int]:
    """Writes a result for each query of a split: its mask, and how sure the student is.

    Only frames that are measured, and those that the student sees with them, are looked at. The
    file appears once all videos are done.

    Args:
        to: the file.

    Returns:
        Numbers of videos predicted and skipped.

    Raises:
        PseudoLabelError: no video could be predicted.
    """
    assert isinstance(reader, MaskedReader), "data sets with queries are read from a root"
    problems: list[str] = []
    videos: dict[str, list[Query]] = {}
    for query, _ in queries_of(reader, reader.root, problems):
        videos.setdefault(query.video.id, []).append(query)
    for problem in problems:
        progress.say(problem, "yellow")
    counts = {"predicted": 0, "there before": 0, "skipped": 0}
    rows: list[dict[str, Any]] = []
    progress.begin("predict", len(videos), "videos")
    for video_id, queries in videos.items():
        try:
            rows += _results(student, reader, video_id, queries, how, device)
            counts["predicted"] += 1
        except InputError as error:
            counts["skipped"] += 1
            progress.say(f"skipped: {error}", "yellow")
        progress.advance(1)
    progress.end()
    if not counts["predicted"]:
        raise PseudoLabelError(
            f"{reader.root}: no video of split {how.split!r} could be predicted; expected annotated"
            f" frames; {'; '.join(problems[:3]) or 'the lines above say why'}"
        )
    with replace_file(to, "w") as file:
        json.dump(rows, file)
    return counts


def _results(
    student: Student,
    reader: DatasetReader,
    video_id: str,
    queries: Sequence[Query],
    how: How,
    device: torch.device,
) -> list[dict[str, Any]]:
    """The results of a video, in the order of its queries."""
    from stages.student.predict import predict_video

    video = reader.video(video_id)
    asked = {item.expression.key.expression: item.expression.text for item in queries}
    row_of = {name: row for row, name in enumerate(asked)}
    # By name: a video is measured in more frames than its ground truth alone tells of.
    places = {name: index for index, name in enumerate(video.frames)}
    wanted = {places[item.video.frames[item.frame]] for item in queries}
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for part in predict_video(
        student,
        reader,
        video,
        list(asked.values()),
        device,
        frames=how.frames,
        online=how.online,
        threshold=how.threshold,
        wanted=wanted,
    ):
        for place, frame in enumerate(part.frames):
            for row in range(len(asked)) if frame in wanted else ():
                found[row, frame] = {
                    "segmentation": encode_rle(part.masks[row, place]),
                    "score": float(part.sure[row, place]),
                }
    keys = [
        (row_of[item.expression.key.expression], places[item.video.frames[item.frame]])
        for item in queries
    ]
    return [
        {"image_id": query.image, "category_id": CATEGORY, **found[key]}
        for query, key in zip(queries, keys, strict=True)
    ]
