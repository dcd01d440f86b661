from __future__ import annotations

import io

import pytest
from rich.console import Console

from flows import progress
from flows.progress import Bars, Lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_parts_that_add_up_to_more_than_the_whole_leave_nothing(clock: list[float]) -> None:
    file = io.StringIO()
    with Lines(Console(file=file, width=100), seconds=1) as lines:
        lines.begin("ground", 1, "videos")
        for _ in range(3):
            clock[0] += 10
            lines.advance(0.34)
    assert "0 s left" in file.getvalue().splitlines()[-1]
    assert "-0" not in file.getvalue()


def test_what_an_earlier_run_did_does_not_count_for_the_pace(clock: list[float]) -> None:
    file = io.StringIO()
    with Lines(Console(file=file, width=100), seconds=1) as lines:
        lines.begin("ground", 100, "videos")
        lines.done_before(90)
        clock[0] = 10.0
        lines.advance(1)
    assert "91 of 100 videos" in file.getvalue()
    assert "90 s left" in file.getvalue()


def test_a_video_counts_once_it_is_done(clock: list[float]) -> None:
    file = io.StringIO()
    with Lines(Console(file=file, width=100), seconds=1) as lines:
        lines.begin("ground", 3, "videos")
        for part in (1, 1, 0.5, 0.5):
            clock[0] += 10
            lines.advance(part)
        lines.end()
    told = [line.split()[1] for line in file.getvalue().splitlines()]
    assert told == ["1", "2", "2", "3", "3"]


def test_a_bar_starts_where_an_earlier_run_left_off() -> None:
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    with bars:
        bars.begin("ground", 100, "videos")
        bars.done_before(90)
        bars.advance(1)
        [task] = bars._progress.tasks
        assert task.completed == 91
