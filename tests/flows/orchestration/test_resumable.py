from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands import server as commands
from flows.orchestration.resumable import resumable
from flows.orchestration.watching.known_runs import remember
from storage.run.lock import RunLock
from tests.flows.conftest import Site


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: str) -> None:
    # The server of the session runs; only the notes of runs are elsewhere.
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


def test_runs_that_are_not_done_can_go_on(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.run(to_stage="augment")
    assert list(resumable()) == []  # nobody has told of it
    remember(site.folder)
    [(folder, words)] = resumable()
    assert folder == site.folder
    assert "segment 2 of 2" in words
    assert "augment" not in words
    commands.resume()
    assert f"{site.folder}: {words}" in capsys.readouterr().out.replace("\n", " ")
    with RunLock(site.folder):
        [(_, words)] = resumable()
        assert "works on it" in words


def test_a_run_whose_data_set_is_gone_says_so(site: Site, tmp_path: Path) -> None:
    site.run(to_stage="augment")
    remember(site.folder)
    (tmp_path / "data").rename(tmp_path / "moved")
    [(_, words)] = resumable()
    assert words.startswith("cannot go on: ")
