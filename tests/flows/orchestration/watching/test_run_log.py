from __future__ import annotations

import logging
from typing import IO, cast

import pytest
from rich.console import Console

from flows.console import say
from flows.orchestration.watching.run_log import LogFile, Logged
from flows.progress import Silent


def test_what_is_said_and_how_stages_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    told = Logged(Silent())
    told.begin("ground", 3, "videos")
    told.done_before(1)
    told.advance(2, frames=10)
    told.say("skipped clip: it is broken", "yellow")
    told.end()
    told.begin("segment", 3, "videos")
    told.done_before(3)
    told.end("done before")
    warning, ground, segment = caplog.records
    assert (warning.levelno, warning.message) == (logging.WARNING, "skipped clip: it is broken")
    assert ground.message.startswith("ground: 3 of 3 videos, 1 s, ")
    assert ground.message.endswith("frames/s")
    assert segment.message == "segment: 3 of 3 videos, done before"


def test_a_console_without_a_terminal_writes_its_lines_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    console = Console(file=cast(IO[str], LogFile()), width=40)
    say(console, "one\n\ntwo [bold]")
    assert [record.message for record in caplog.records] == ["one", "two [bold]"]
