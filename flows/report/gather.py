"""Collects what the report shows from a run's products, one row and one sample at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flows.context import RunContext
from flows.report.charts import Histogram
from flows.report.draw import TRUE, jpeg_url, overlay, predicted_frame
from flows.report.tracks import TracksView, VideoTracks
from pipeline.errors import InputError, StoreError
from pipeline.judgements import Judgement
from pipeline.metrics import region_similarity
from pipeline.ports import DatasetReader
from pipeline.sampling import pick_frames
from pipeline.text import read_text
from pipeline.types import (
    Augmentation,
    Expression,
    FrameIndex,
    FrameQuality,
    Status,
)
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import iter_quality, read_augmentations

STATUS_WORDS = {Status.UNKNOWN: "unknown", Status.PRESENT: "present", Status.ABSENT: "absent"}


@dataclass(frozen=True)
class FrameView:
    """One frame of a card: images as data URLs, its status, and the reason."""

    name: str
    image: str
    truth: str | None
    status: str
    reason: str
    iou: float | None


@dataclass(frozen=True)
class Card:
    """One expression of one video.

    Attributes:
        quality: mean weight of its frames, in [0, 1]; None for predictions.
        present: share of its frames that have a mask.
        absent: share of its frames in which the target is said to be absent.
        judged: what the judge said, in words; empty if it was not asked.
        iou: mean J of the frames shown that have ground truth; None without ground truth.
    """

    video: str
    expression: str
    text: str
    kind: str | None
    quality: float | None
    present: float
    absent: float
    iou: float | None
    frames: list[FrameView]
    augmentation: Augmentation | None
    reasons: list[tuple[str, int]]
    tracks: TracksView | None = None
    judged: str = ""

    @property
    def size(self) -> int:
        """Bytes of the images."""
        views = sum(len(view.image) + len(view.truth or "") for view in self.frames)
        return views + sum(len(image) for _, image in (self.tracks.frames if self.tracks else ()))


@dataclass
class Quality:
    """The result of one pass over the quality rows."""

    histograms: list[Histogram]
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    weights: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    frame_reasons: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)


def new_histograms() -> list[Histogram]:
    """Returns one histogram for each quality value."""
    return [
        Histogram("weight", "Weight", "how much the frame counts when a student is trained"),
        Histogram("box_score", "Box score", "similarity of the box to the original expression"),
        Histogram("predicted_iou", "Predicted IoU", "the segmenter's own estimate"),
        Histogram("stability", "Stability", "overlap of the masks at two thresholds"),
        Histogram("agreement", "Agreement", "share of the positives that take the same object"),
        Histogram("temporal_iou", "Temporal IoU", "overlap with the kept neighbours"),
        Histogram(
            "negative_margin",
            "Negative margin",
            "support of the positives less the strongest negative's claim",
            low=-1.0,
        ),
    ]


def read_quality(context: RunContext, samples: Sequence[tuple[str, str]]) -> Quality:
    """One pass over the quality rows of all that `rank` has finished, from the tables that it wrote
    with the masks; details are kept of the given samples alone."""
    found = Quality(new_histograms())
    wanted = set(samples)
    for receipt in Ledger(context.paths.folder).each("rank"):
        for row in iter_quality(context.paths.part("rank", receipt.shard)):
            _add_row(found, row, (row.video, row.expression) in wanted)
    return found


def _add_row(found: Quality, row: FrameQuality, is_wanted: bool) -> None:
    status = STATUS_WORDS[Status(row.status)]
    found.frames += 1
    found.statuses[status] += 1
    for chart in found.histograms:
        chart.add(getattr(row, chart.name), row.status)
    if row.reason:
        found.reasons[status, row.reason] += 1
    if is_wanted:
        key = row.video, row.expression
        total, count = found.weights.get(key, (0.0, 0))
        found.weights[key] = (total + row.weight, count + 1)
        if row.reason:
            found.frame_reasons.setdefault(key, {})[row.frame] = row.reason


def pick_samples(store: MaskStore, limit: int) -> tuple[list[tuple[str, str]], int]:
    """Returns at most ``limit`` samples, evenly spread over the store, and their total number."""
    total = sum(len(store.expressions(video)) for video in store.videos())
    wanted = set(np.linspace(0, total - 1, min(limit, total)).round().astype(int).tolist())
    picked = [key for row, key in enumerate(store.samples()) if row in wanted]
    return picked, total


def cards(
    context: RunContext,
    reader: DatasetReader,
    store: MaskStore,
    samples: Sequence[tuple[str, str]],
    quality: Quality | None,
    frames: int | None = None,
) -> Iterator[Card]:
    """Yields one card per sample. A sample whose video cannot be read is left out.

    Args:
        reader: of the split that the masks are of.
        store: the masks.
        samples: (video, expression), videos together.
        quality: for pseudo-masks; None for predictions.
        frames: of a card; the configuration's number by default.
    """
    shown = context.config.report.frames if frames is None else frames
    augmentations = _Augmentations(context) if quality is not None else None
    tracks = VideoTracks(context) if quality is not None else None
    for video_id, name in samples:
        try:
            expression = next(
                item for item in reader.expressions(video_id) if item.key.expression == name
            )
            yield _card(context, reader, store, expression, quality, augmentations, tracks, shown)
        except (InputError, StoreError, StopIteration):
            continue


def _card(
    context: RunContext,
    reader: DatasetReader,
    store: MaskStore,
    expression: Expression,
    quality: Quality | None,
    augmentations: _Augmentations | None,
    tracks: VideoTracks | None,
    count: int,
) -> Card:
    video = reader.video(expression.key.video)
    key = (video.id, expression.key.expression)
    _, _, status = store.read(*key)
    picked = pick_frames(len(video), count)
    masks, _, _ = store.read(*key, frames=picked)
    why = {} if quality is None else quality.frame_reasons.get(key, {})
    views, images = [], []
    for index, mask in zip(picked, masks, strict=True):
        image = reader.frame(video, index)
        images.append(image)
        truth = reader.truth(video, expression, FrameIndex(index))
        state = Status(int(status[index]))
        width = context.config.report.width
        iou = None
        if truth is not None and state != Status.UNKNOWN:
            void = reader.void(video, FrameIndex(index))
            iou = float(region_similarity(mask, truth, void))
        views.append(
            FrameView(
                name=video.frames[index],
                image=jpeg_url(predicted_frame(image, mask, state, width)),
                truth=None if truth is None else jpeg_url(overlay(image, truth, TRUE, width)),
                status=STATUS_WORDS[state],
                reason=why.get(index, ""),
                iou=iou,
            )
        )
    ious = [view.iou for view in views if view.iou is not None]
    total, rows = (0.0, 0) if quality is None else quality.weights.get(key, (0.0, 0))
    return Card(
        video=video.id,
        expression=expression.key.expression,
        text=expression.text,
        kind=expression.kind,
        quality=total / rows if rows else None,
        present=float((status == Status.PRESENT).mean()) if len(status) else 0.0,
        absent=float((status == Status.ABSENT).mean()) if len(status) else 0.0,
        iou=sum(ious) / len(ious) if ious else None,
        frames=views,
        augmentation=None if augmentations is None else augmentations.of(*key),
        reasons=Counter(why.values()).most_common(),
        tracks=None if tracks is None else tracks.of(video, key[1], picked, images),
        judged="" if augmentations is None else augmentations.judged(*key),
    )


class _Augmentations:
    """Augmentations and judgements of a run by sample; one shard in memory at a time."""

    def __init__(self, context: RunContext) -> None:
        assert context.plan is not None
        self._context, self._paths = context, context.paths
        self._shard_of = {
            video: shard.name for shard in context.plan.layout for video in shard.videos
        }
        self._shard = ""
        self._held: dict[str, list[Augmentation]] = {}
        self._judgements: Mapping[tuple[str, str], Judgement] = {}

    def judged(self, video: str, expression: str) -> str:
        """Returns what the judge said of a sample, in words; empty if it was not asked."""
        self.of(video, expression)
        found = self._judgements.get((video, expression))
        return "" if found is None else f"{found.provenance.model}: {found.words()}"

    def of(self, video: str, expression: str) -> Augmentation | None:
        shard = self._shard_of.get(video)
        if shard is None:
            return None
        if shard != self._shard:
            self._shard = shard
            self._held = read_augmentations(self._paths.part("augment", shard))
            self._judgements = self._context.judgements(shard)
        mine = self._held.get(video, [])
        return next((item for item in mine if item.key.expression == expression), None)


def read_metrics(context: RunContext) -> dict[str, Any]:
    """Returns ``metrics.json``; empty if there is none."""
    try:
        values: dict[str, Any] = json.loads(read_text(context.paths.metrics))
    except (OSError, ValueError):
        return {}
    return values
