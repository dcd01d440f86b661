"""Habits of the command line: version, completion, help, and what is not written unasked."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from flows.commands import main
from tests.flows.commands.conftest import Cli
from tests.flows.commands.test_main import ROOT
from tests.storage.datasets import trees


def test_version(cli: Cli) -> None:
    code, shown = cli("--version")
    assert code == 0 and shown.startswith("pseudolabels 0.") and ", Python 3." in shown


def test_completion() -> None:
    words, expected = "pseudolabels run --pre", "--preset"
    environment = {
        **os.environ,
        "_PSEUDOLABELS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "PYTHONPATH": str(ROOT),
    }
    code = "import sys; sys.argv = ['pseudolabels']; from pseudolabels import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    ).stdout
    assert expected in shown.split()


def test_completion_is_installed_for_the_shell(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    code, shown = cli("--install-completion", "bash")
    assert code == 0 and "completion installed" in shown
    assert "pseudolabels" in (tmp_path / ".bashrc").read_text()


def test_a_wrong_word_is_answered_by_the_right_one(cli: Cli) -> None:
    for words, right in (
        (("rnu",), "'run'"),
        (("run", "--presett", "base"), "--preset"),
        (("run", "rank.treshold=0.5"), "rank.threshold"),
        (("run", "--preset", "bse"), "base"),
    ):
        code, shown = cli(*words)
        assert code == 2 and right in shown
        assert "did you mean" in shown.lower() or "Possible options" in shown


def test_every_help_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    from tests.test_documents import every_command

    monkeypatch.setenv("COLUMNS", "80")
    for words, command in every_command(typer.main.get_command(main.app)):
        with pytest.raises(SystemExit):
            command.main(["--help"], prog_name=f"pseudolabels {words}")
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80, words
        # A paragraph is wrapped by the terminal, not where its docstring ends a line.
        lines = [line.rstrip() for line in shown.partition("╭")[0].splitlines()]
        for line, following in pairwise(lines):
            if line.strip() and following.strip() and "Usage" not in line:
                assert len(line) + len(following.split()[0]) >= 78, (words, line)


@pytest.mark.parametrize("words", [(), ("server",), ("evaluate",), ("dataset",), ("weights",)])
def test_every_group_has_an_example(cli: Cli, words: tuple[str, ...]) -> None:
    code, shown = cli(*words, "--help")
    assert code == 0 and f"Example: {' '.join(('pseudolabels', *words))}" in shown


def test_show_writes_a_contact_sheet_only_where_it_is_asked_to(cli: Cli, tmp_path: Path) -> None:
    data = trees.refytvos(tmp_path / "data")
    code, shown = cli("dataset", "show", "--dataset", "refytvos", "--root", data)
    assert code == 0 and "--sheet FILE.png" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_predict_takes_no_file_of_another_kind_for_a_folder(cli: Cli, tmp_path: Path) -> None:
    code, shown = cli("predict", "--to", "p.json")
    assert code == 2 and "--to p.json: a JSON file with the data set shapes; expected one" in shown
    for name in ("p.txt", "p.tar.gz"):
        code, shown = cli("predict", "--to", name)
        assert code == 2 and f"--to {name}: a file that ends in" in shown
        assert not (tmp_path / name).exists()
