"""J, F and J&F of pseudo-masks, of the plain baseline and of the student, against ground truth.

All figures are in percent. A system is scored a sample at a time: means over its frames, then
over the samples. Memory holds the frames of one sample.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.metrics import contour_accuracy, region_similarity
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, Status, VideoRef

logger = logging.getLogger(__name__)

T = TypeVar("T")

KINDS = ("appearance", "place", "motion", "relation")

OUTCOMES = ("right", "too much", "too little", "wrong object", "missed")
"""What a frame that holds the target comes to. ``right``: J of at least ``RIGHT``. Else ``too
much``: the mask covers at least half of the target; ``too little``: at least half of the mask is on
it; ``wrong object``: neither. ``missed``: there is no mask."""

RIGHT = 0.5

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SampleScore:
    """One expression of one video; every figure in [0, 1], NaN where it has no frame.

    Attributes:
        kind: of the expression, where the data set says so.
        j, f: means over the frames that have ground truth and are not unknown.
        strict_j, strict_f: the same with the frames that were dropped, though they hold the
            target, as 0; dropped frames without the target are left out.
        frames: frames with ground truth.
        present: of them, frames with status present; they have a mask.
        absent: of them, frames with status absent. The rest are unknown.
        empty: of them, frames whose ground truth is empty.
        found_empty: of the empty ones, frames with status absent.
        outcomes: number of frames that hold the target, by what became of it; see ``OUTCOMES``.
    """

    kind: str | None
    j: float
    f: float
    strict_j: float
    strict_f: float
    frames: int
    present: int
    absent: int
    empty: int
    found_empty: int
    outcomes: Mapping[str, int] = field(default_factory=dict)


class SampleMasks(Protocol):
    """One system's masks of a sample: mask [T, H, W] and status [T]; None where it has none."""

    def __call__(
        self, video: VideoRef, expression: Expression
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint8]] | None: ...


def score_sample(
    kind: str | None,
    masks: Sequence[Mask] | Mask,
    status: Sequence[int] | NDArray[np.uint8],
    truths: Iterable[Mask | None],
    voids: Iterable[Mask | None] = repeat(None),
) -> SampleScore | None:
    """Scores one sample.

    Args:
        kind: of the expression.
        masks: T masks [H, W]; of a frame that is absent, counted as empty.
        status: T values of :class:`Status`.
        truths: T true masks; None for a frame without ground truth, which is left out.
        voids: T masks of the pixels that count for nothing; None for none.

    Returns:
        The score; None where no frame has ground truth.
    """
    js: list[float] = []
    fs: list[float] = []
    outcomes: Counter[str] = Counter()
    frames = present = absent = empty = found_empty = missed = 0
    frames_of = zip(masks, status, truths, strict=True)
    for (mask, state, truth), void in zip(frames_of, voids, strict=False):
        if truth is None:
            continue
        frames += 1
        present += int(state == Status.PRESENT)
        absent += int(state == Status.ABSENT)
        holds_target = bool(truth.any())
        if not holds_target:
            empty += 1
            found_empty += int(state == Status.ABSENT)
        if state == Status.UNKNOWN:
            missed += int(holds_target)
            if holds_target:
                outcomes["missed"] += 1
            continue
        predicted = mask if state == Status.PRESENT else np.zeros_like(truth)
        overlap = float(region_similarity(predicted, truth, void))
        if holds_target:
            outcomes[outcome_of(predicted, truth, overlap)] += 1
        js.append(overlap)
        fs.append(float(contour_accuracy(predicted, truth, void)))
    if frames == 0:
        return None
    strict = len(js) + missed
    return SampleScore(
        kind=kind,
        j=_mean(sum(js), len(js)),
        f=_mean(sum(fs), len(fs)),
        strict_j=_mean(sum(js), strict),
        strict_f=_mean(sum(fs), strict),
        frames=frames,
        present=present,
        absent=absent,
        empty=empty,
        found_empty=found_empty,
        outcomes=outcomes,
    )


def outcome_of(predicted: Mask, truth: Mask, overlap: float) -> str:
    """Returns what a mask [H, W] of a frame that holds the target comes to, of ``OUTCOMES``.

    Args:
        overlap: J of the two.
    """
    if not predicted.any():
        return "missed"
    if overlap >= RIGHT:
        return "right"
    shared = np.count_nonzero(predicted & truth)
    if shared >= np.count_nonzero(truth) / 2:
        return "too much"
    return "too little" if shared >= np.count_nonzero(predicted) / 2 else "wrong object"


def summarise(scores: Sequence[SampleScore]) -> dict[str, Any] | None:
    """The figures of one system for ``metrics.json``; None where nothing has ground truth."""
    if not scores:
        return None
    frames = sum(score.frames for score in scores)
    present = sum(score.present for score in scores)
    absent = sum(score.absent for score in scores)
    empty = sum(score.empty for score in scores)
    return {
        "overall": _figures([(score.j, score.f) for score in scores]),
        "by_kind": {
            kind: _figures([(score.j, score.f) for score in scores if score.kind == kind])
            for kind in KINDS
        },
        "frames_present": _percent(_mean(present, frames)),
        "frames_absent": _percent(_mean(absent, frames)),
        "frames_unknown": _percent(_mean(frames - present - absent, frames)),
        "overall_with_dropped_as_misses": _figures(
            [(score.strict_j, score.strict_f) for score in scores]
        ),
        "absent_frames_found": _percent(_mean(sum(s.found_empty for s in scores), empty)),
        "visible_frames": {
            name: _percent(_mean(sum(s.outcomes.get(name, 0) for s in scores), frames - empty))
            for name in OUTCOMES
        },
    }


def in_each(
    reader: DatasetReader,
    videos: Iterable[str],
    work: Callable[[VideoRef, Sequence[Expression]], T],
) -> Iterator[tuple[str, T | InputError]]:
    """Works on videos one after the other, past those that cannot be read.

    Args:
        reader: of their split.
        videos: ids.
        work: on a video and its expressions.

    Yields:
        (video, what came of it); where it, its sentences or its ground truth cannot be read, the
        error.
    """
    for video_id in videos:
        found: T | InputError
        try:
            found = work(reader.video(video_id), reader.expressions(video_id))
        except InputError as error:
            found = error
        yield video_id, found


def left_out(video_id: str, error: InputError) -> str:
    """The line that tells of a video that cannot be read; it names the file."""
    return f"{video_id} was left out: {error}"


def score_each(
    reader: DatasetReader,
    videos: Iterable[str],
    masks: SampleMasks,
    check: Callable[[VideoRef], None] = lambda video: None,
) -> Iterator[tuple[str, list[tuple[str, SampleScore]] | InputError]]:
    """Scores a system video by video.

    Args:
        reader: of the split that the masks are of.
        videos: ids.
        masks: the system; a sample without masks counts as all unknown, so that a system gains
            nothing by leaving samples out.
        check: raises where the masks are not of this video.

    Yields:
        (video, [(expression, score)] of its samples that have ground truth), or its error.
    """

    def work(video: VideoRef, expressions: Sequence[Expression]) -> list[tuple[str, SampleScore]]:
        check(video)
        return [
            (item.key.expression, score)
            for item in expressions
            if (score := evaluate_sample(reader, video, item, masks)) is not None
        ]

    return in_each(reader, videos, work)


def evaluate(
    reader: DatasetReader, videos: Iterable[str], masks: SampleMasks
) -> Iterator[tuple[str, list[SampleScore]]]:
    """As :func:`score_each`; a video that cannot be read is logged, and has no scores."""
    for video_id, found in score_each(reader, videos, masks):
        if isinstance(found, InputError):
            logger.warning("%s", left_out(video_id, found))
            found = []
        yield video_id, [score for _, score in found]


def evaluate_sample(
    reader: DatasetReader, video: VideoRef, expression: Expression, masks: SampleMasks
) -> SampleScore | None:
    """Scores a system's masks of one sample; None where no frame has ground truth. Masks are not
    read then."""
    frames = [FrameIndex(t) for t in range(len(video))]
    if all(reader.truth(video, expression, frame) is None for frame in frames):
        return None
    found = masks(video, expression)
    if found is None:
        empty = np.broadcast_to(np.False_, (len(video), video.height, video.width))
        found = empty, np.zeros(len(video), np.uint8)
    truths = (reader.truth(video, expression, frame) for frame in frames)
    voids = (reader.void(video, frame) for frame in frames)
    return score_sample(expression.kind, *found, truths, voids)


def _figures(pairs: Sequence[tuple[float, float]]) -> dict[str, float] | None:
    kept = [(j, f) for j, f in pairs if not math.isnan(j)]
    if not kept:
        return None
    j = sum(j for j, _ in kept) / len(kept)
    f = sum(f for _, f in kept) / len(kept)
    return {"J": round(100 * j, 2), "F": round(100 * f, 2), "J&F": round(50 * (j + f), 2)}


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(100 * share, 2)
