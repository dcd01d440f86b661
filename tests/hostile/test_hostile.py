"""Two hundred broken inputs: each ends in a clear message or a video set aside; never in an error
of another class, a hang, a wrong result, or a file outside the output.
"""

from __future__ import annotations

import hashlib
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


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder with a digest; nothing of the output and of the input."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("case",)
    }


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_does_no_harm(kind: str, number: int, tmp_path: Path) -> None:
    case = tmp_path / "case"
    case.mkdir()
    site = Site(case, kind, number)
    before = snapshot(tmp_path)
    with time_limit(SECONDS):
        KINDS[kind](site)
    assert snapshot(tmp_path) == before
    allowed = {"input", "out", "secret", "weights"}
    assert {path.name for path in case.iterdir()} <= allowed
    if site.out.exists():
        assert {path.name for path in site.out.iterdir()} <= {"refytvos-train"}


def test_there_are_two_hundred() -> None:
    assert len(KINDS) * 10 >= 200
