"""Shows the progress of a run: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flows.console import plain, say

LINE_SECONDS = 10.0
"""Time between two lines of a stage if there is no terminal."""


class Reporter(Protocol):
    """Is told about stages and the work done in them."""

    def begin(self, stage: str, total: float, unit: str) -> None:
        """A stage starts that has ``total`` units of work."""
        ...

    def done_before(self, amount: float) -> None:
        """Units of the stage were done by an earlier run; they do not count for the pace."""
        ...

    def advance(self, amount: float, frames: int = 0) -> None:
        """Units of the current stage were done, with so many frames."""
        ...

    def end(self, note: str = "") -> None:
        """The current stage has ended."""
        ...

    def say(self, text: str, style: str = "") -> None:
        """Prints a line."""
        ...


class Silent:
    """A reporter that shows nothing."""

    def begin(self, stage: str, total: float, unit: str) -> None: ...

    def done_before(self, amount: float) -> None: ...

    def advance(self, amount: float, frames: int = 0) -> None: ...

    def end(self, note: str = "") -> None: ...

    def say(self, text: str, style: str = "") -> None: ...


class Bars:
    """Shows one bar per stage, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text=plain("✓", "green")),
            TextColumn("{task.description:<9}", style="bold", markup=False),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TextColumn("{task.fields[rate]}", style="cyan", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
        )
        self._task: TaskID | None = None
        self._rate = _Rate()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._rate = _Rate()
        self._task = self._progress.add_task(stage, total=total, unit=unit, rate="", note="")

    def done_before(self, amount: float) -> None:
        if self._task is not None:
            # An advance would count for the pace.
            self._progress.reset(self._task, completed=int(amount))

    def advance(self, amount: float, frames: int = 0) -> None:
        if self._task is not None:
            self._rate.add(frames)
            self._progress.update(self._task, advance=amount, rate=str(self._rate))

    def end(self, note: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, note=note)
            task = self._progress.tasks[self._progress.task_ids.index(self._task)]
            if task.total is not None and task.completed >= task.total - 1e-6:
                self._progress.update(self._task, completed=task.total)
            self._progress.stop_task(self._task)
        self._task = None

    def say(self, text: str, style: str = "") -> None:
        say(self._progress.console, text, style)


class Lines:
    """Prints a line every few seconds, for logs and pipes."""

    def __init__(self, console: Console, seconds: float = LINE_SECONDS) -> None:
        self._console = console
        self._seconds = seconds
        self._stage = ""

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage = ""

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._done = self._before = 0.0
        self._rate = _Rate()
        self._started = self._told = time.monotonic()

    def done_before(self, amount: float) -> None:
        self._before += amount
        self._done += amount

    def advance(self, amount: float, frames: int = 0) -> None:
        if not self._stage:
            return
        self._done += amount
        self._rate.add(frames)
        now = time.monotonic()
        if now - self._told >= self._seconds:
            self._told = now
            pace = (now - self._started) / max(self._done - self._before, 1e-9)
            # The parts of a video can add up to slightly more than 1.
            left = pace * max(0.0, self._total - self._done)
            self._print(self._amount(), f"{left:.0f} s left")

    def end(self, note: str = "") -> None:
        if self._stage:
            took = time.monotonic() - self._started
            self._print(self._amount(), f"{took:.1f} s", note)
        self._stage = ""

    def _amount(self) -> str:
        """What is done; a video that is begun does not count."""
        done = min(math.floor(self._done + 1e-6), self._total)
        return f"{done:g} of {self._total:g} {self._unit}"

    def say(self, text: str, style: str = "") -> None:
        say(self._console, text, style)

    def _print(self, *parts: str) -> None:
        shown = [part for part in (*parts[:1], str(self._rate), *parts[1:]) if part]
        say(self._console, f"{self._stage:<9} {', '.join(shown)}")


class _Rate:
    """Frames per second since the start, as text; empty if no frames were counted."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._frames = 0

    def add(self, frames: int) -> None:
        self._frames += frames

    def __str__(self) -> str:
        seconds = time.monotonic() - self._started
        if not self._frames or seconds <= 0:
            return ""
        return f"{self._frames / seconds:.1f} frames/s"


def reporter(console: Console) -> Bars | Lines:
    """Returns bars on a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)
