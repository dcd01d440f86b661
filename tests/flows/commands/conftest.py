"""Calls the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.commands.test_main import call

Cli = Callable[..., tuple[int, str]]
"""Takes the words of a command; returns its exit code and what it prints, as one line."""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """The command line, in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: call(monkeypatch, capsys, *map(str, words))
