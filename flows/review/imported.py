"""Decisions that people made in CVAT, Label Studio or FiftyOne."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from flows.context import RunContext
from flows.finished_results import FinishedMasks
from pipeline.decisions import Action, Decision
from pipeline.drawn import Drawn
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import Status
from storage.corrections import (
    CorrectedVideo,
    expression_of,
    is_corrections,
    read_corrections,
)
from storage.decisions import DecisionLog, read_decision_file
from storage.fiftyone_tags import is_fiftyone, read_tags

TAGS: dict[str, Action] = {"accepted": "accept", "rejected": "reject"}
"""Tags in FiftyOne that are decisions."""


def read_any(context: RunContext, path: Path, who: str) -> DecisionLog:
    """Returns the decisions of a file or folder.

    These are those of a CSV table or of a ``review.jsonl``; corrected masks of CVAT or of Label
    Studio, a decision for each frame that is not as the run has it; or the tags of FiftyOne.

    Args:
        who: name that goes with decisions of other tools, which do not say who made them. Their
            time is that of the file.

    Raises:
        PseudoLabelError: it cannot be read, or is about no video of the run.
    """
    if is_corrections(path):
        return _corrected(context, path, who)
    if path.is_dir():
        return _tagged(context, path, who)
    return read_decision_file(path)


def _corrected(context: RunContext, path: Path, who: str) -> DecisionLog:
    found, store, when = read_corrections(path), FinishedMasks(context.paths), _time(path)
    log = DecisionLog(problems=list(found.problems))
    known = set(store.videos())
    strange = sorted(found.videos.keys() - known)
    log.problems.extend(f"{name}: not a video of the run; left out" for name in strange)
    if not found.videos.keys() & known:
        raise PseudoLabelError(
            f"{path}: masks of none of the {len(known)} videos of {context.paths.folder}; expected"
            " what `export --to cvat` or `--to label-studio` of this run wrote, corrected"
        )
    for video in sorted(found.videos.keys() & known):
        try:
            log.decisions.extend(_of_video(store, video, found.videos[video], who, when))
        except ValueError as error:
            raise InputError(
                path,
                f"{video}: {error}",
                "masks of this video's size",
                "label the frames that `export` wrote, at their size",
            ) from error
    return log


def _of_video(
    store: FinishedMasks, video: str, corrected: CorrectedVideo, who: str, when: str
) -> Iterator[Decision]:
    expressions, size = store.expressions(video), store.size(video)
    for expression in expressions:
        labels = {
            label for label in corrected.labels if expression_of(label, expressions) == expression
        }
        _, status = store.quality(video, expression)
        for frame, name in enumerate(store.frames(video)):
            if not corrected.covers(frame, name):
                continue
            mask = corrected.mask(labels, frame, name, size)
            if np.array_equal(mask, store.read(video, expression, [frame])[0][0]):
                continue
            at = who, when, video, expression
            if mask.any():
                # Frames that nobody changed were right: the mask is carried to none of them.
                yield Decision(*at, "draw", frame, frame, drawn=(Drawn.of(frame, mask),))
            elif status[frame] == Status.PRESENT:
                yield Decision(*at, "absent", frame, frame)


def _tagged(context: RunContext, folder: Path, who: str) -> DecisionLog:
    if not is_fiftyone(folder):
        raise InputError(
            folder,
            "a folder without manifest.json and labels/",
            "a FiftyOneVideoLabelsDataset, or a file",
            "export the dataset of `export --to fiftyone` from FiftyOne in its own format",
        )
    log, when = DecisionLog(), _time(folder / "manifest.json")
    known = set(FinishedMasks(context.paths).samples())
    for sample, tags in read_tags(folder):
        said = sorted(tags & TAGS.keys())
        if sample not in known:
            log.problems.append(f"{sample[0]} {sample[1]}: not a sample of the run; left out")
        elif len(said) > 1:
            log.problems.append(f"{sample[0]} {sample[1]}: tagged {' and '.join(said)}; left out")
        elif said:
            log.decisions.append(Decision(who, when, *sample, TAGS[said[0]]))
    return log


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="microseconds")
