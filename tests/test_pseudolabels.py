"""How the command starts, in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
START = "from pseudolabels import main; main()"


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command with a folder before the project on Python's path."""
    place = os.pathsep.join((str(folder), str(ROOT)))
    return subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": place, **environment},
        # A job in the background of a script inherits that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    "stray", ["pipeline.py", "flows.py", "storage.py", "stages/__init__.py", "random.py"]
)
def test_a_file_that_takes_the_place_of_a_module_is_named(tmp_path: Path, stray: str) -> None:
    path = tmp_path / stray
    path.parent.mkdir(exist_ok=True)
    path.write_text("X = 1\n")
    with start(tmp_path, "--help") as process:
        shown, said = process.communicate()
    assert (process.returncode, shown) == (1, "")
    assert str(path) in said and "PYTHONPATH" in said
    assert "Traceback" not in said


def test_a_working_folder_that_was_removed_is_reported(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'rmdir "{gone}"; exec "{sys.executable}" -c "{START}" --help'
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "error: the working folder has been removed; change to one that exists\n"
    )


def test_an_interrupt_while_libraries_load_ends_with_a_word(tmp_path: Path) -> None:
    slow = tmp_path / "typer.py"
    slow.write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    for number in (signal.SIGINT, signal.SIGTERM):
        with start(tmp_path, "run") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "loading\n"
            process.send_signal(number)
            _, said = process.communicate()
        assert (process.returncode, said) == (128 + number, "\nInterrupted.\n")


def test_warnings_of_others_end_nothing(tmp_path: Path) -> None:
    (tmp_path / "tomli_w.py").write_text("import warnings\nwarnings.warn('old')\ndumps = None\n")
    for options in ({"PYTHONWARNINGS": "error"}, {"PYTHONWARNINGS": "error::UserWarning"}):
        with start(tmp_path, "--help", **options) as process:
            shown, said = process.communicate()
        assert process.returncode == 0, said
        assert "Usage" in shown


def test_docstrings_that_libraries_read_are_there(tmp_path: Path) -> None:
    text = 'def f() -> None:\n    """Said."""\n\n\nassert f.__doc__ == "Said.", "gone"\ndumps = f\n'
    (tmp_path / "tomli_w.py").write_text(text)
    with start(tmp_path, "--help", PYTHONOPTIMIZE="2") as process:
        shown, said = process.communicate()
    assert (process.returncode, "Usage" in shown) == (0, True), said
