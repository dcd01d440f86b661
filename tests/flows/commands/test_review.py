"""`review`, `explain` and `guarantee` as commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.commands.main import app
from flows.planning.run_config import write_run_config
from pipeline.decisions import Decision, now
from storage.decisions import append_decisions, read_decisions
from tests.flows.conftest import Site


def call(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(ran: Site) -> Path:
    write_run_config(ran.folder / "config.toml", ran.config())
    return ran.folder


def made(who: str, action: Any, video: str = "clip00") -> Decision:
    return Decision(who, now(), video, "0", action)


def test_a_budget_lists_what_to_decide_next(folder: Path) -> None:
    found = call("review", folder, "--budget", 3)
    assert found.exit_code == 0, found.output
    assert found.output.count("clip0") == 3


def test_decisions_go_out_and_come_in_once(folder: Path, tmp_path: Path) -> None:
    append_decisions(folder / "review.jsonl", [made("anna", "accept")])
    table = tmp_path / "decisions.csv"
    assert "1 decisions" in call("review", folder, "--export", table).output
    other = tmp_path / "other.jsonl"
    append_decisions(other, [made("ben", "reject"), made("ben", "accept", "clip01")])
    found = call("review", folder, "--import", table, "--import", other)
    assert found.exit_code == 0, found.output
    assert "0 decisions taken over, 1 known" in found.output
    assert "2 decisions taken over, 0 known" in found.output
    assert "1 samples on which reviewers disagree" in found.output
    log = read_decisions(folder / "review.jsonl").decisions
    assert [item.who for item in log] == ["anna", "ben", "ben"]
    conflicts = call("review", folder, "--conflicts").output
    assert "anna: accepted; ben: rejected. What holds: rejected" in conflicts


def test_a_name_that_is_none_is_refused(folder: Path) -> None:
    found = call("review", folder, "--who", " ", "--budget", 1)
    assert found.exit_code != 0


def test_explain_and_guarantee_print_what_they_found(folder: Path) -> None:
    found = call("explain", folder, "clip03", "1", 2)
    assert found.exit_code == 0 and "The votes make the frame present" in found.output
    found = call("guarantee", folder, "--confidence", 0.5)
    assert "8 labelled masks in 4 videos" in found.output
    assert "100.0% of 8 masks" in found.output
    assert "Held-out videos: 100.0% are kept; of these 0.0% are below" in found.output
