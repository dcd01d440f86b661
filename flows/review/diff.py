"""Compares the masks of two runs: what changed, by how much, and which frames turned.

Masks are read one sample at a time. Letters: T frames, H W pixels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.evaluation.metrics_table import FIGURES, figure
from flows.finished_results import FinishedMasks
from flows.report import page_source, page_template
from flows.report.draw import jpeg_url, predicted_frame
from pipeline.errors import InputError, PseudoLabelError
from pipeline.metrics import region_similarity
from pipeline.text import read_text
from pipeline.types import FrameIndex, Status
from storage.files.atomic import replace_file

WORDS = {Status.UNKNOWN: "unknown", Status.PRESENT: "present", Status.ABSENT: "absent"}
WIDTH = 320


@dataclass(frozen=True)
class Change:
    """How the masks of a sample differ.

    Attributes:
        iou: mean IoU of the two masks over the frames; 1 where both are empty.
        frames: number of frames whose mask or status differs.
        total: T.
        worst: the frame whose masks agree least.
        turned: (status before, status after) -> number of frames.
    """

    video: str
    expression: str
    text: str
    iou: float
    frames: int
    total: int
    worst: int
    turned: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Comparison:
    """How two runs differ.

    Attributes:
        changes: samples that differ, the most different first.
        same: number of samples that do not.
        missing: samples that only one of the runs has.
        turned: as of :class:`Change`, of all samples.
        metrics: (label, before, after), in percent; None where a run has no such figure.
    """

    changes: list[Change]
    same: int
    missing: list[str]
    turned: Counter[tuple[str, str]]
    metrics: list[tuple[str, float | None, float | None]]


def compare(before: RunContext, after: RunContext) -> Comparison:
    """Compares two runs of the same videos.

    Raises:
        PseudoLabelError: a run has no masks, or a store is damaged.
    """
    stores = FinishedMasks(before.paths), FinishedMasks(after.paths)
    for context, store in zip((before, after), stores, strict=True):
        if not store.videos():
            raise PseudoLabelError(
                f"{context.paths.folder}: no masks; expected a run that has been labelled; make it"
                " with `pseudolabels run`"
            )
    one, other = (dict.fromkeys(store.samples()) for store in stores)
    missing = [f"{video} {name}" for video, name in one.keys() ^ other.keys()]
    changes, same, turned = [], 0, Counter[tuple[str, str]]()
    for sample in (sample for sample in one if sample in other):
        found = _change(stores[0], stores[1], *sample)
        if found is None:
            missing.append(f"{sample[0]} {sample[1]}: of other frames")
            continue
        if not found.frames:
            same += 1
            continue
        changes.append(found)
        turned.update(found.turned)
    changes.sort(key=lambda item: item.iou)
    return Comparison(changes, same, sorted(missing), turned, _metrics(before, after))


def _change(
    before: FinishedMasks, after: FinishedMasks, video: str, expression: str
) -> Change | None:
    """Returns how a sample differs; None if its frames are others, which cannot be compared."""
    if before.frames(video) != after.frames(video) or before.size(video) != after.size(video):
        return None
    total = len(before.frames(video))
    status = before.quality(video, expression)[1], after.quality(video, expression)[1]
    ious = np.ones(total)
    for frame in range(total):
        pair = (store.read(video, expression, [frame])[0][0] for store in (before, after))
        ious[frame] = float(region_similarity(*pair))
    differs = (ious < 1) | (status[0] != status[1])
    places = zip(*(item.tolist() for item in status), strict=True)
    turned = Counter((WORDS[Status(a)], WORDS[Status(b)]) for a, b in places if a != b)
    text = before.texts(video)[before.expressions(video).index(expression)]
    # Where the masks are equal, a frame that is judged otherwise is worth a look.
    worst = int(np.argmin(ious - 0.5 * (status[0] != status[1])))
    frames = int(differs.sum())
    return Change(video, expression, text, float(ious.mean()), frames, total, worst, turned)


def _metrics(before: RunContext, after: RunContext) -> list[tuple[str, float | None, float | None]]:
    found = []
    for context in (before, after):
        try:
            values: Any = json.loads(read_text(context.paths.metrics))["pseudo_masks"] or {}
        except (OSError, ValueError, KeyError):
            values = {}
        found.append(values)
    rows = [(label, figure(found[0], keys), figure(found[1], keys)) for label, keys in FIGURES]
    return [row for row in rows if row[1] is not None or row[2] is not None]


@dataclass(frozen=True)
class Pair:
    """A frame of a changed sample, before and after, as ``data:`` URLs."""

    change: Change
    frame: str
    before: str
    after: str


def write_page(
    path: Path, before: RunContext, after: RunContext, found: Comparison, most: int = 60
) -> None:
    """Writes a page that shows the samples that changed most side by side.

    Args:
        path: the HTML file.
        most: samples with pictures. All others are rows.
    """
    values = {
        "style": page_source("report.css"),
        "names": [str(item.paths.folder) for item in (before, after)],
        "found": found,
        "turned": found.turned.most_common(),
        "pairs": _pairs(before, after, found.changes[:most]),
    }
    stream = page_template("diff.html").stream(values)
    with replace_file(path, "w") as file:
        for piece in stream:
            file.write(piece)


def _pairs(before: RunContext, after: RunContext, changes: list[Change]) -> Iterator[Pair]:
    stores = FinishedMasks(before.paths), FinishedMasks(after.paths)
    for change in changes:
        try:
            video = after.reader().video(change.video)
            image = after.reader().frame(video, FrameIndex(change.worst))
        except InputError:
            continue
        drawn = [_drawn(store, change, image) for store in stores]
        yield Pair(change, video.frames[change.worst], *drawn)


def _drawn(store: FinishedMasks, change: Change, image: NDArray[np.uint8]) -> str:
    mask, _, status = store.read(change.video, change.expression, [change.worst])
    return jpeg_url(predicted_frame(image, mask[0], int(status[0]), min(WIDTH, image.shape[1])))
