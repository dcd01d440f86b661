from pathlib import Path

import pytest

from flows.orchestration.watching.known_runs import folder_of, key_of, known_runs, remember


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "prefect"


def run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()
    remember(folder)
    return folder


def test_runs_of_one_name_in_two_folders_have_two_keys(tmp_path: Path) -> None:
    one, two = run(tmp_path / "a" / "shapes-train"), run(tmp_path / "b" / "shapes-train")
    assert key_of(one) != key_of(two)
    assert key_of(one).startswith("shapes-train-")
    assert folder_of(key_of(one)) == one
    assert sorted(known_runs()) == [one, two]


def test_a_run_that_is_gone_is_not_named(tmp_path: Path) -> None:
    gone = run(tmp_path / "gone")
    (gone / "config.toml").unlink()
    assert list(known_runs()) == []


@pytest.mark.parametrize("key", ["", "..", "../x", "a/b", "A", "no-such", "x" * 90])
def test_a_key_that_no_run_has_leads_nowhere(key: str, home: Path) -> None:
    assert folder_of(key) is None
    assert list(known_runs()) == []


def test_a_note_under_another_runs_key_is_not_believed(tmp_path: Path, home: Path) -> None:
    folder = run(tmp_path / "shapes-train")
    (home / "pseudolabels-runs" / key_of(folder)).write_text("/etc")
    assert folder_of(key_of(folder)) is None
