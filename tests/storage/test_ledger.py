from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunLockedError
from pipeline.types import Receipt
from storage.ledger import Ledger, RunLock

RECEIPT = Receipt(
    stage="fuse",
    shard="00003",
    fingerprint="abc",
    videos=("a", "b"),
    set_aside={"b": "broken"},
    counts={"frames": 12, "boxes": 3.5},
    seconds=1.25,
)


def test_receipts_read_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.receipt("fuse", "00003") is None
    ledger.commit(RECEIPT)
    ledger.commit(replace(RECEIPT, shard="00001"))
    ledger.commit(replace(RECEIPT, stage="rank"))
    assert ledger.receipt("fuse", "00003") == RECEIPT
    assert [receipt.shard for receipt in ledger.receipts("fuse")] == ["00001", "00003"]
    assert ledger.receipts("ground") == []


def test_done_means_this_fingerprint_and_no_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert not ledger.is_done("fuse", "00003", "abc")
    ledger.commit(RECEIPT)
    assert ledger.is_done("fuse", "00003", "abc")
    assert not ledger.is_done("fuse", "00003", "other")
    ledger.commit(replace(RECEIPT, error="no space"))
    assert not ledger.is_done("fuse", "00003", "abc")


def test_a_withdrawn_receipt_is_gone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(RECEIPT)
    ledger.withdraw("fuse", "00003")
    ledger.withdraw("fuse", "00003")
    assert ledger.receipt("fuse", "00003") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stage": "fuse", "videos": [], "x": 1}'])
def test_a_receipt_that_cannot_be_read_does_not_exist(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(RECEIPT)
    (ledger.folder / "fuse" / "00003.json").write_text(text)
    assert ledger.receipt("fuse", "00003") is None
    assert ledger.receipts("fuse") == []
    assert "done again" in caplog.text


def test_names_that_climb_out_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="shard name"):
        Ledger(tmp_path).receipt("fuse", "../x")


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
from storage.ledger import RunLock
lock = RunLock(pathlib.Path({str(tmp_path)!r}))
lock.__enter__()
os._exit(9)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == 9
    assert (tmp_path / ".lock.owner").exists()
    with RunLock(tmp_path):
        pass
