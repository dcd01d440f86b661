"""Works on the videos of a shard one after the other, and skips videos that cannot be read."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.labelling.memory import give_back
from flows.labelling.prefetch import WriteBehind
from flows.planning.receipts import Outcome
from flows.planning.shards import Shard
from flows.timing import Meter
from pipeline.errors import InputError, PseudoLabelError, UnusableAnswerError
from pipeline.types import Status, VideoRef

logger = logging.getLogger(__name__)

Later = Callable[[Callable[[], None]], None]
"""Adds a write, which is done in the background after those before it."""


@dataclass(frozen=True)
class Done:
    """The result of one video.

    Attributes:
        frames: number of frames that the stage processed.
        write: writes the result to disk. The video counts once this has succeeded.
        counts: further counts.
    """

    frames: int
    write: Callable[[], None]
    counts: Mapping[str, int] = field(default_factory=dict)


def each_video(
    context: RunContext,
    shard: Shard,
    outcome: Outcome,
    work: Callable[[VideoRef, Later], Done],
    meter: Meter,
    video_of: Callable[[str], VideoRef] | None = None,
) -> None:
    """Works on the videos of a shard. Returns when everything is written.

    Args:
        video_of: looks a video up; None for the reader.
    """
    look_up = video_of or context.reader().video

    def ended(item: tuple[str, Done] | None, problem: Exception | None) -> None:
        if item is None:
            if problem is not None:
                raise problem
            return
        video_id, done = item
        if problem is not None:
            _skip(outcome, video_id, problem)
            return
        outcome.counts.update(done.counts)
        outcome.counts["frames"] += done.frames
        outcome.counts["videos"] += 1

    runner = context.config.runner
    with WriteBehind[tuple[str, Done] | None](runner.writes_behind, ended, meter) as behind:
        for video_id in shard.videos:
            if video_id in outcome.skipped_before:
                context.progress.advance(1)
                continue
            counted = _Counted(context)
            try:
                done = work(look_up(video_id), partial(behind.put, None))
            except Exception as error:  # noqa: BLE001 - what is no video's own is raised again
                _skip(outcome, video_id, error)
            else:
                behind.put((video_id, done), done.write)
                del done
            finally:
                counted.close()
                give_back()
    _raise_what_is_the_stages(outcome)
    for kind, seconds in meter.seconds.items():
        outcome.seconds[kind] = round(seconds, 6)


def _skip(outcome: Outcome, video_id: str, error: Exception) -> None:
    """Skips a video, or raises the error again if it is not the video's fault."""
    if isinstance(error, InputError | UnusableAnswerError):
        reason = str(error)
    elif _is_the_machines(error):
        raise error
    else:
        reason = f"{type(error).__name__}: {error}"
        outcome.unforeseen.append(error)
        logger.info("video %s: an error that was not foreseen", video_id, exc_info=error)
    logger.warning("video %s is skipped: %s", video_id, reason)
    outcome.skipped[video_id] = reason


def _is_the_machines(error: Exception) -> bool:
    """Whether an error is not the video's fault but that of the disk, the network, the memory, a
    device, a model or the configuration."""
    if isinstance(error, PseudoLabelError | OSError | MemoryError | ImportError):
        return True
    if "torch" not in sys.modules:
        return False
    from stages.common.fitting_batches import is_lost_device, is_out_of_memory

    return is_out_of_memory(error) or is_lost_device(error)


def _raise_what_is_the_stages(outcome: Outcome) -> None:
    """Raises an unexpected error if all of several videos raised one, because then the stage is at
    fault."""
    errors = outcome.unforeseen
    same = len({(type(error), str(error)) for error in errors}) == 1
    if len(errors) > 1 and same and not outcome.counts["videos"]:
        raise errors[0]


class _Counted:
    """Completes the progress of a video when it is closed."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._real = context.progress
        self._done = 0.0
        context.progress = self

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._real.begin(stage, total, unit)

    def done_before(self, amount: float) -> None:
        self._real.done_before(amount)

    def advance(self, amount: float, frames: int = 0) -> None:
        self._done += amount
        self._real.advance(amount, frames)

    def end(self, note: str = "") -> None:
        self._real.end(note)

    def say(self, text: str, style: str = "") -> None:
        self._real.say(text, style)

    def close(self) -> None:
        self._context.progress = self._real
        self._real.advance(1 - self._done)


def count_frames(counts: Counter[str], status: NDArray[np.uint8], reasons: Sequence[str]) -> None:
    """Counts the frames of one expression by status, and those without a mask by reason.

    Args:
        status: of each frame, values of :class:`pipeline.types.Status`.
        reasons: of each frame; empty where there is none.
    """
    for value, reason in zip(status, reasons, strict=True):
        counts[Status(value).name.lower()] += 1
        if value != Status.PRESENT and reason:
            counts[f"rejected: {reason}"] += 1
