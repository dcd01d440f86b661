"""What `make` hands to the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile beside a command that prints its arguments."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = tmp_path / ".venv" / "bin" / "pseudolabels"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    command.chmod(0o755)
    # Later than the files that an installation depends on.
    (tmp_path / ".venv" / ".installed").touch()
    os.utime(tmp_path / ".venv" / ".installed", (4e9, 4e9))
    return tmp_path


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # `make test` tells its own make of itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *words], cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def test_a_sentence_may_hold_any_character(project: Path) -> None:
    sentence = 'the "red" dog\'s `ball`, $5 $(date) {x}'
    words = ["label", "VIDEO=my dog.mp4", f"TEXT={sentence}", "ARGS=--max-size 640"]
    done = make(project, *words)
    assert done.returncode == 0, done.stderr
    expected = ["label", "my dog.mp4", "--text", sentence, "--max-size", "640"]
    assert done.stdout.splitlines() == [f"<{word}>" for word in expected]


@pytest.mark.parametrize("words", [[], ["VIDEO=dog.mp4"], ["TEXT=a dog"]])
def test_label_needs_a_video_and_a_sentence(project: Path, words: list[str]) -> None:
    done = make(project, "label", *words)
    assert done.returncode == 2
    assert "make label VIDEO=dog.mp4 TEXT=" in done.stderr
    assert done.stdout == ""
