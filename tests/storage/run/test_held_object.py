"""The lock of a run in an object store."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import LockLostError, RunLockedError
from pipeline.store_urls import local_place
from pipeline.types import Receipt
from storage.remote.mirror import mirror_of
from storage.remote.objects import Objects
from storage.run import held_file, held_object
from storage.run.held_object import NAME, HeldObject, holder_of
from storage.run.layout import write_layout
from storage.run.ledger import Ledger
from storage.run.lock import (
    TOKENS,
    RunLock,
    check_held,
    held_tokens,
    is_kept_up,
    lock_holder,
    was_left,
    works_under_lock,
)
from storage.run.owner import Owner


@pytest.fixture
def run(store_url: str) -> Path:
    """The local copy of a run, which does not exist yet."""
    return local_place(f"{store_url}/run")


def objects_of(run: Path) -> Objects:
    mirror = mirror_of(run)
    assert mirror is not None
    return mirror.objects


def hold(run: Path, **changes: Any) -> Owner:
    """The lock as another process leaves it."""
    owner = replace(Owner.here(), token="other", **changes)
    objects_of(run).put(NAME, json.dumps({**asdict(owner), "beats": 1}).encode())
    return owner


def receipt(shard: str = "00000") -> Receipt:
    return Receipt("fuse", shard, "print", ("clip",))


def within_seconds(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_a_second_writer_is_refused_wherever_its_copy_is(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(run):
        assert str(lock_holder(run)).startswith("process ")
        assert works_under_lock(run)
        assert is_kept_up(run)
        monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "another"))
        elsewhere = tmp_path / "another" / run.relative_to(tmp_path / "cache")
        with (
            pytest.raises(RunLockedError, match=r"s3://.*: another process writes here \(process"),
            RunLock(elsewhere),
        ):
            pass
        # The local lock of the second one is free again.
        assert not is_kept_up(elsewhere)
    assert holder_of(objects_of(elsewhere)) is None
    assert lock_holder(elsewhere) is None
    with RunLock(elsewhere):
        pass


def test_the_lock_of_a_killed_run_is_no_obstacle_on_its_machine(run: Path) -> None:
    code = f"""
import os, pathlib
from storage.run.lock import RunLock
RunLock(pathlib.Path({str(run)!r})).__enter__()
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert was_left(run)
    with RunLock(run):
        assert not was_left(run)
    assert list(objects_of(run).walk()) == []


def test_a_holder_elsewhere_counts_until_it_was_silent_for_too_long(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(run, machine="other")
    with pytest.raises(RunLockedError, match="on other"), RunLock(run):
        pass
    assert str(lock_holder(run)).endswith("on other")
    monkeypatch.setattr(held_file, "STALE_SECONDS", -1.0)
    assert was_left(run)
    with RunLock(run):
        assert holder_of(objects_of(run)) != hold
    assert list(objects_of(run).walk()) == []


def test_of_two_that_find_a_stale_lock_one_gets_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(run, process=2**22 + 1)
    objects = objects_of(run)
    real = HeldObject._age

    def quicker(self: HeldObject) -> float:
        hold(run, machine="quicker")
        monkeypatch.setattr(HeldObject, "_age", real)
        return real(self)

    monkeypatch.setattr(HeldObject, "_age", quicker)
    with pytest.raises(RunLockedError, match="on quicker"), RunLock(run):
        pass
    found = holder_of(objects)
    assert found is not None
    assert found.machine == "quicker"


def test_a_heartbeat_gives_the_lock_another_version(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_file, "HEARTBEAT_SECONDS", 0.01)
    with RunLock(run):
        versions = {objects_of(run).look(NAME).version}

        def beats() -> bool:
            versions.add(objects_of(run).look(NAME).version)
            return len(versions) > 2

        assert within_seconds(beats)
        check_held(run)


def test_whoever_lost_the_lock_commits_nothing_and_leaves_it_alone(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_file, "HEARTBEAT_SECONDS", 0.01)
    ledger = Ledger(run)
    with RunLock(run):
        ledger.commit(receipt())
        successor = hold(run, machine="other")
        for change in (
            lambda: ledger.commit(receipt("00001")),
            lambda: ledger.withdraw("fuse", "00000"),
            lambda: write_layout(run, {"00000": ["a"]}),
        ):
            with pytest.raises(LockLostError, match=r"s3://.*on other"):
                change()
        assert within_seconds(lambda: not any(t.name == "lock of the store" for t in threads()))
    assert holder_of(objects_of(run)) == successor
    names = {entry.name for entry in objects_of(run).walk()}
    assert names == {NAME, "ledger/fuse/00000.json"}


def threads() -> list[Any]:
    return held_object.threading.enumerate()


def test_a_worker_of_another_machine_works_under_the_lock_of_its_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(run):
        monkeypatch.setenv(TOKENS, held_tokens())
        monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "worker"))
        copy = tmp_path / "worker" / run.relative_to(tmp_path / "cache")
        monkeypatch.delitem(held_file.TOKENS_HERE, objects_of(copy).url)
        check_held(copy)
        Ledger(copy).commit(receipt())
        hold(copy, machine="other")
        with pytest.raises(LockLostError):
            Ledger(copy).commit(receipt())
    assert {entry.name for entry in objects_of(copy).walk()} == {NAME, "ledger/fuse/00000.json"}
