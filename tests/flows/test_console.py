from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from flows.commands import main
from flows.console import Output, add_row, grid, make_printable, say
from flows.progress import Bars, Lines
from tests.fakes.dataset import write_dataset

ROOT = Path(__file__).resolve().parents[2]
DATA = ("[old] clips", "a[/b].png", ":smile: [bold]x", "\\[x]")


@pytest.mark.parametrize("console", [Console(width=200), Output()])
def test_data_are_shown_as_they_are(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    for text in DATA:
        say(console, text)
        say(console, text, "yellow", label="label")
    assert capsys.readouterr().out == "".join(f"{text}\nlabel {text}\n" for text in DATA)


def test_a_table_and_a_report_of_progress_take_data_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    table = grid(("[a]", "left"), title="[/title]")
    for text in DATA:
        add_row(table, text)
    Console(width=200).print(table)
    bars = Bars(Console(width=200, force_terminal=True))
    for reporter in (Lines(Console(width=200)), bars):
        with reporter:
            reporter.begin("[stage]", 1, "[unit]")
            for text in DATA:
                reporter.say(text)
            reporter.advance(1)
            reporter.end("[/note]")
    shown = capsys.readouterr().out
    assert all(shown.count(text) == 3 for text in DATA), shown
    assert "[/title]" in shown and "[a]" in shown and "[/note]" in shown
    assert isinstance(bars._progress, Progress)


def test_what_would_steer_a_terminal_is_shown_by_its_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(Console(force_terminal=True), "a\x1b[2Jb\rc\x9bd\te\nf")
    assert "a\\x1b[2Jb\\x0dc\\x9bd" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_letters_that_the_output_lacks_are_told_in_others(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", stream)
    make_printable()
    say(Output(), "✓ 0.4 → 0.7 … 猫 \udcff")
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    expected = "✓ 0.4 → 0.7 … 猫" if encoding == "utf-8" else "+ 0.4 -> 0.7 ... \\u732b"
    assert shown == f"{expected} \\udcff\n"


def test_commands_end_well_on_an_output_that_is_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_dataset(tmp_path / "data", 1)
    for arguments in (
        ("dataset", "check", "--dataset", "refytvos", "--root", str(data)),
        ("--help",),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("sys.argv", ["pseudolabels", *arguments])
        with pytest.raises(SystemExit) as end:
            main.main()
        assert end.value.code == 0
        assert stream.buffer.tell() > 500


def test_a_command_whose_output_nobody_reads_says_why_it_ends() -> None:
    code = "from flows.console import Output, say\nfor _ in range(9999): say(Output(), 'x' * 99)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert said.startswith("error: the program that reads the output has ended")
    assert said.count("\n") == 1
