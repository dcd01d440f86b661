"""Writes what a terminal says to the log of the flow run as well."""

from __future__ import annotations

import io
import logging
import math
import time

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.planning.time_estimate import in_words
from flows.progress import Reporter

_LEVELS = {"red": logging.ERROR, "bold red": logging.ERROR, "yellow": logging.WARNING}


def log(level: int, text: str) -> None:
    """Writes a line to the log of the current task run or flow run; outside of both, to that of
    this module.
    """
    try:
        get_run_logger().log(level, "%s", text)
    except MissingContextError:
        logging.getLogger(__name__).log(level, "%s", text)


class Logged:
    """A reporter that also writes lines, and a line at the end of each stage, to the log.

    Args:
        shown: shows the same.
    """

    def __init__(self, shown: Reporter) -> None:
        self._shown = shown
        self._stage, self._unit, self._total = "", "", 0.0
        self._done, self._before, self._frames, self._started = 0.0, 0.0, 0, 0.0

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._stage, self._unit, self._total = stage, unit, total
        self._done, self._before, self._frames = 0.0, 0.0, 0
        self._started = time.monotonic()
        self._shown.begin(stage, total, unit)

    def done_before(self, amount: float) -> None:
        self._before += amount
        self._done += amount
        self._shown.done_before(amount)

    def advance(self, amount: float, frames: int = 0) -> None:
        self._done += amount
        self._frames += frames
        self._shown.advance(amount, frames)

    def end(self, note: str = "") -> None:
        if self._stage:
            log(logging.INFO, f"{self._stage}: {', '.join(filter(None, [*self._work(), note]))}")
        self._stage = ""
        self._shown.end(note)

    def _work(self) -> list[str]:
        """What was done now, how long it took, and the pace."""
        done = min(math.floor(self._done + 1e-6), self._total)
        words, seconds = f"{done:g} of {self._total:g} {self._unit}", self._seconds()
        if self._done <= self._before:
            return [words]
        pace = f"{self._frames / seconds:.1f} frames/s" if self._frames and seconds > 0 else ""
        return [words, in_words(seconds), pace]

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def say(self, text: str, style: str = "") -> None:
        log(_LEVELS.get(style, logging.INFO), text)
        self._shown.say(text, style)


class LogFile(io.TextIOBase):
    """A file whose lines go to the log, for a console without a terminal."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                log(logging.INFO, line.rstrip())
        return len(text)
