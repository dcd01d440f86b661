"""The queries of A2D-Sentences and JHMDB-Sentences: a sentence and a frame that is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.scores import left_out
from flows.evaluation.videos import video_or_truth
from pipeline.errors import InputError
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets.numbers import is_number
from storage.files.json_files import list_at, read_json

DATASETS = ("a2d", "jhmdb")
"""Names of the data sets that have queries."""

SAMPLES = "jhmdb_sentences_samples_metadata.json"
"""File of JHMDB-Sentences that names the three frames of a video that are measured."""

_SAMPLES_LAYOUT = "a JSON list of [video, frame path, mask path, frames, text]"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Query:
    """A sentence about a frame.

    Attributes:
        image: name of the pair, as COCO files have it: ``v_<video>_f_<frame>_i_<instance>`` in
            ``a2d`` and ``v_<video>_f_<frame>`` in ``jhmdb``, frames as the data set's files number
            them.
        video: whose frame it is; its frames may be missing.
        expression: the sentence.
        frame: position of the frame.
    """

    image: str
    video: VideoRef
    expression: Expression
    frame: FrameIndex


def queries_of(
    reader: DatasetReader, root: Path, problems: list[str]
) -> Iterator[tuple[Query, Mask]]:
    """Yields the queries of a split with their true masks [H, W]; in ``a2d`` none is empty.

    Args:
        reader: of ``a2d`` or ``jhmdb``.
        root: the data set's folder; JHMDB's holds :data:`SAMPLES`.
        problems: gets a sentence about whatever cannot be read.

    Raises:
        InputError: the file of JHMDB's frames is missing or malformed.
    """
    return (
        _annotated(reader, problems) if reader.name == "a2d" else _sampled(reader, root, problems)
    )


def _annotated(reader: DatasetReader, problems: list[str]) -> Iterator[tuple[Query, Mask]]:
    """Every annotated frame of A2D-Sentences, for each instance that it shows."""
    for video_id in reader.video_ids():
        video = video_or_truth(reader, video_id, problems)
        if isinstance(video, InputError):
            continue
        try:
            expressions = reader.expressions(video_id)
        except InputError as error:
            problems.append(left_out(video_id, error))
            continue
        for expression in expressions:
            for index in map(FrameIndex, range(len(video))):
                name = video.frames[index]
                try:
                    mask = reader.truth(video, expression, index)
                except InputError as error:
                    problems.append(left_out(f"{video_id}, frame {name},", error))
                    continue
                if mask is not None and mask.any():
                    image = f"v_{video_id}_f_{int(name)}_i_{expression.key.expression}"
                    yield Query(image, video, expression, index), mask


def _sampled(
    reader: DatasetReader, root: Path, problems: list[str]
) -> Iterator[tuple[Query, Mask]]:
    """The frames of JHMDB-Sentences that its file names."""
    path = root / SAMPLES
    rows = list_at(read_json(path, _SAMPLES_LAYOUT), path, "the file", _SAMPLES_LAYOUT)
    videos: dict[str, VideoRef | InputError] = {}
    for row in rows:
        sample = list_at(row, path, "a sample", _SAMPLES_LAYOUT)
        stem = Path(str(sample[1])).stem if len(sample) > 1 else ""
        if not is_number(stem):
            raise InputError(path, f"a sample is {row}", _SAMPLES_LAYOUT, "fix the sample")
        video_id, frame = str(sample[0]), int(stem)
        if video_id not in videos:
            videos[video_id] = video_or_truth(reader, video_id, problems)
        video = videos[video_id]
        if isinstance(video, InputError):
            continue
        numbers = [int(name) if is_number(name) else -1 for name in video.frames]
        try:
            expression = reader.expressions(video_id)[0]
            index = FrameIndex(numbers.index(frame)) if frame in numbers else None
            mask = None if index is None else reader.truth(video, expression, index)
        except InputError as error:
            problems.append(left_out(f"{video_id}, frame {frame},", error))
            continue
        if index is None or mask is None:
            problems.append(f"{video_id}, frame {frame}, was left out: it has no truth")
            continue
        yield Query(f"v_{video_id}_f_{frame}", video, expression, index), mask
