"""Two hundred broken inputs: each ends in a clear message or a video skipped; never in an error
of another class, a hang, a wrong result, or a file outside the output.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.hostile.kinds import KINDS
from tests.hostile.site import Site

SECONDS = 20
"""That one case may take, on a machine with other work."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def hang(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_does_no_harm(kind: str, number: int, tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    site = Site(case, kind, number)
    with time_limit(SECONDS):
        KINDS[kind](site)
    assert site.before, "nothing was noted before the work began"
    assert site.outside() == site.before
    allowed = {"input", "out", "secret", "weights"}
    assert {path.name for path in case.iterdir()} <= allowed
    if site.out.exists():
        assert {path.name for path in site.out.iterdir()} <= {"refytvos-train"}


@pytest.mark.parametrize("place", ["secret/x", "input/x", "weights", "../x", "folder"])
def test_what_is_written_outside_the_output_is_seen(tmp_path: Path, place: str) -> None:
    (tmp_path / "case").mkdir()
    site = Site(tmp_path / "case", "kind", 0)
    site.seal()
    (site.folder / "out").mkdir()
    (site.folder / "out" / "x").write_text("of the work")
    site.seal()
    assert site.outside() == site.before
    path = site.folder / place
    path.mkdir() if place == "folder" else path.write_text("an escape")
    assert site.outside() != site.before


def test_there_are_two_hundred() -> None:
    assert len(KINDS) * 10 >= 200
