import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunLockedError
from storage.run import lock as lock_module
from storage.run.lock import STALE_SECONDS, Owner, RunLock


def test_a_second_run_is_kept_out_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        with pytest.raises(RunLockedError, match=r"process \d+ on "), RunLock(tmp_path / "run"):
            pass
        with RunLock(tmp_path / "other"):
            pass
    with RunLock(tmp_path / "run"):
        pass


def test_the_lock_of_a_killed_run_is_no_obstacle(tmp_path: Path) -> None:
    code = f"""
import os, pathlib
from storage.run.lock import RunLock
lock = RunLock(pathlib.Path({str(tmp_path)!r}))
lock.__enter__()
os._exit(9)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == 9
    assert (tmp_path / ".lock.owner").exists()
    with RunLock(tmp_path):
        pass


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot lock."""

    def refuse(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", refuse)


def hold(folder: Path, age: float = 0, **changes: Any) -> Owner:
    """A lock file as another process would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = replace(Owner.here(), token="other", **changes)
    path = folder / ".lock.held"
    path.write_text(json.dumps(asdict(owner)))
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return owner


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_file_keeps_the_second_run_out_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with RunLock(tmp_path, said.append):
        [line] = said
        assert "cannot lock files" in line
        with (
            pytest.raises(RunLockedError, match=f"process {os.getpid()} on "),
            RunLock(tmp_path, said.append),
        ):
            pass
        assert (tmp_path / ".lock.held").exists()
    assert not (tmp_path / ".lock.held").exists()
    with RunLock(tmp_path, said.append):
        pass


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("changes", "age", "free"),
    [
        ({"process": 2**22 + 1}, 0, True),  # ended
        ({"started": 1}, 0, True),  # its number is another process's now
        ({"boot": "before"}, 0, True),  # the machine was started anew
        ({}, 2 * STALE_SECONDS, False),  # lives, though it hangs
        ({"machine": "other"}, STALE_SECONDS / 2, False),
        ({"machine": "other"}, STALE_SECONDS + 60, True),
        ({"machine": "other", "boot": "x", "process": 2**22 + 1}, 0, False),
    ],
)
def test_only_a_holder_that_is_gone_gives_way(
    tmp_path: Path, changes: dict[str, Any], age: float, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_text", _with_identity(lock_module._text))
    hold(tmp_path, age, **changes)
    if free:
        with RunLock(tmp_path):
            pass
        return
    with pytest.raises(RunLockedError), RunLock(tmp_path):
        pass
    assert (tmp_path / ".lock.held").exists()


def _with_identity(real: Any) -> Any:
    """Not every container has a machine id."""
    return lambda path: "id" if path == "/etc/machine-id" else real(path)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": 1}'])
def test_a_lock_file_that_cannot_be_read_counts_by_its_age(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".lock.held"
    path.write_text(text)
    with pytest.raises(RunLockedError, match="not known"), RunLock(tmp_path):
        pass
    os.utime(path, (0, 0))
    with RunLock(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_the_heartbeat_keeps_the_file_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / ".lock.held"
    with RunLock(tmp_path):
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            lock_module.threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0


def test_another_error_of_the_disk_is_not_taken_for_a_missing_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(OSError, match="I/O error"), RunLock(tmp_path):
        pass
