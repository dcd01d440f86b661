import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import LockLostError, NoRoomError, RunLockedError
from pipeline.types import Failure, Receipt
from storage.run import held_file
from storage.run import owner as owner_module
from storage.run.held_file import STALE_SECONDS, HeldFile
from storage.run.layout import write_layout
from storage.run.ledger import Ledger
from storage.run.lock import (
    HELD,
    TOKENS,
    RunLock,
    check_held,
    has_ended,
    held_tokens,
    lock_holder,
    works_under_lock,
)
from storage.run.owner import Owner


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
    assert (tmp_path / HELD).exists()
    assert lock_holder(tmp_path) is None
    with RunLock(tmp_path):
        pass
    assert not (tmp_path / HELD).exists()


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot lock."""

    def refuse(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr("fcntl.flock", refuse)


def hold(folder: Path, age: float = 0, **changes: Any) -> Owner:
    """A lock file as another process leaves it."""
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
        ({"boot": "before", "container": "pid:[1]"}, 0, False),  # may be another machine's
        ({"container": "pid:[1]", "process": 2**22 + 1}, 0, False),  # another container's process
        ({"container": "pid:[1]"}, STALE_SECONDS + 60, True),
        ({}, 2 * STALE_SECONDS, False),  # lives, though it hangs
        ({"machine": "other"}, STALE_SECONDS / 2, False),
        ({"machine": "other"}, STALE_SECONDS + 60, True),
        ({"machine": "other", "boot": "x", "process": 2**22 + 1}, 0, False),
    ],
)
def test_only_a_holder_that_is_gone_gives_way(
    tmp_path: Path, changes: dict[str, Any], age: float, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_text", _with_identity(owner_module._text))
    monkeypatch.setattr(owner_module, "_container", lambda: "pid:[4026531836]")
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
    monkeypatch.setattr(held_file, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / ".lock.held"
    with RunLock(tmp_path):
        os.utime(path, (0, 0))
        assert within_seconds(lambda: path.stat().st_mtime > 0)


def within_seconds(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        held_file.threading.Event().wait(0.01)
    return condition()


def test_another_error_of_the_disk_is_not_taken_for_a_missing_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr("fcntl.flock", fail)
    with pytest.raises(OSError, match="I/O error"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("locked", [False, True])
def test_a_fresh_lock_of_a_machine_that_cannot_lock_is_heeded_where_files_lock(
    tmp_path: Path, locked: bool
) -> None:
    owner = hold(tmp_path, machine="other", locked=locked)
    if locked:
        # It had the system's lock. This process could take it, so the other has ended.
        with RunLock(tmp_path):
            pass
        return
    with pytest.raises(RunLockedError, match="on other"), RunLock(tmp_path):
        pass
    assert held_file.read_owner(tmp_path / HELD) == owner
    # The system's lock was given back.
    (tmp_path / HELD).unlink()
    with RunLock(tmp_path):
        pass


@pytest.mark.usefixtures("no_locks")
def test_where_files_do_not_lock_the_lock_of_one_that_locked_is_heeded(tmp_path: Path) -> None:
    hold(tmp_path, machine="other", locked=True)
    with pytest.raises(RunLockedError, match="on other"), RunLock(tmp_path):
        pass


def test_who_holds_a_lock_is_told_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock_holder(tmp_path / "missing") is None
    assert lock_holder(tmp_path) is None
    assert not list(tmp_path.iterdir())
    with RunLock(tmp_path):
        # Asking takes no lock, not even for a moment in which a run starts.
        monkeypatch.setattr("fcntl.flock", lambda *_: pytest.fail("a lock was asked for"))
        assert (lock_holder(tmp_path) or "").startswith("process ")
        (tmp_path / HELD).write_text("{")
        assert lock_holder(tmp_path) == "a process that is not known"
        monkeypatch.undo()


def test_a_holder_that_the_system_does_not_know_is_told_as_long_as_it_is_fresh(
    tmp_path: Path,
) -> None:
    hold(tmp_path, machine="other")
    assert (lock_holder(tmp_path) or "").endswith("on other")
    hold(tmp_path, age=STALE_SECONDS + 60, machine="other")
    assert lock_holder(tmp_path) is None
    hold(tmp_path, process=2**22 + 1)
    assert lock_holder(tmp_path) is None


def receipt(shard: str = "00000") -> Receipt:
    return Receipt("fuse", shard, "print", ("clip",))


def test_a_holder_that_lost_its_lock_writes_no_receipt_and_leaves_the_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_file, "HEARTBEAT_SECONDS", 0.01)
    ledger = Ledger(tmp_path)
    with RunLock(tmp_path):
        ledger.commit(receipt())
        # It slept, and another machine took over.
        successor = hold(tmp_path, machine="other")
        for change in (
            lambda: ledger.commit(receipt("00001")),
            lambda: ledger.withdraw("fuse", "00000"),
            lambda: ledger.fail(Failure("fuse", "00001", "x", "no")),
            lambda: write_layout(tmp_path, {"00000": ["a"]}),
        ):
            with pytest.raises(LockLostError, match="on other"):
                change()
        # Nor does it keep the other's lock young.
        assert within_seconds(lambda: not any(t.name == "run lock" for t in threads()))
    assert held_file.read_owner(tmp_path / HELD) == successor
    assert [item.shard for item in ledger.receipts("fuse")] == ["00000"]
    # Whoever never took the lock is not asked for it.
    ledger.commit(receipt("00001"))


def threads() -> list[Any]:
    return held_file.threading.enumerate()


def test_a_holder_whose_lock_file_was_removed_has_lost_it(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / HELD).unlink()
        with pytest.raises(LockLostError, match="gone"):
            check_held(tmp_path)


def test_a_worker_in_another_process_works_under_the_lock_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(tmp_path):
        monkeypatch.setenv(TOKENS, held_tokens())
        monkeypatch.delitem(held_file.TOKENS_HERE, str(tmp_path / HELD))
        check_held(tmp_path)
        assert works_under_lock(tmp_path)
        assert not works_under_lock(tmp_path / "another")
        Ledger(tmp_path).commit(receipt())
        hold(tmp_path, machine="other")
        with pytest.raises(LockLostError):
            Ledger(tmp_path).commit(receipt())


def test_a_lock_that_could_not_be_written_whole_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(Owner, "as_text", full)
        with pytest.raises(NoRoomError), RunLock(tmp_path):
            pass
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("links", [True, False])
def test_the_lock_of_one_who_was_quicker_to_clear_a_stale_file_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    hold(tmp_path, process=2**22 + 1)
    quicker: list[Owner] = []
    real = held_file.read_owner

    def read(path: Path) -> Owner | None:
        owner = real(path)
        if not quicker:
            quicker.append(hold(tmp_path))
        return owner

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links")

    monkeypatch.setattr(held_file, "read_owner", read)
    if not links:
        monkeypatch.setattr("os.link", no_links)
    with pytest.raises(RunLockedError), HeldFile(tmp_path / HELD):
        pass
    assert real(tmp_path / HELD) == quicker[0]
    assert [path.name for path in tmp_path.iterdir()] == [HELD]


def test_a_process_of_this_machine_is_looked_up(tmp_path: Path) -> None:
    me = Owner.here()
    assert not has_ended(me, tmp_path)
    assert has_ended(replace(me, process=2**22 + 1), tmp_path)
    assert has_ended(replace(me, started=me.started + 1), tmp_path)
    assert Owner.of_text(me.as_text()) == me
    with pytest.raises(ValueError, match="not the owner"):
        Owner.of_text("{}")


@pytest.mark.parametrize(
    ("holder", "age", "ended"),
    [
        (None, 0, False),  # nothing is known
        ({}, STALE_SECONDS / 2, False),
        ({}, STALE_SECONDS + 60, True),
        ({"process": 7, "machine": "a third"}, 0, True),  # another took over
    ],
)
def test_a_process_of_another_machine_has_the_locks_heartbeat_as_its_lease(
    tmp_path: Path, holder: dict[str, Any] | None, age: float, ended: bool
) -> None:
    elsewhere = replace(Owner.here(), machine="other")
    if holder is not None:
        hold(tmp_path, age, **{"machine": "other", **holder})
    assert has_ended(elsewhere, tmp_path) is ended
