from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.types import Failure, Receipt
from storage.run.ledger import Ledger
from tests.fakes.disk import Disk

RECEIPT = Receipt(
    stage="fuse",
    shard="00003",
    fingerprint="abc",
    videos=("a", "b"),
    skipped={"b": "broken"},
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


def test_done_means_this_fingerprint(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert not ledger.is_done("fuse", "00003", "abc")
    ledger.commit(RECEIPT)
    assert ledger.is_done("fuse", "00003", "abc")
    assert not ledger.is_done("fuse", "00003", "other")


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


def test_a_failure_is_noted_beside_the_receipt_and_ends_with_the_next_one(tmp_path: Path) -> None:
    ledger, failed = Ledger(tmp_path), Failure("fuse", "00003", "abc", "no space", attempts=2)
    ledger.commit(RECEIPT)
    ledger.fail(failed)
    ledger.fail(replace(failed, shard="00001"))
    assert ledger.failure("fuse", "00003") == failed
    assert [note.shard for note in ledger.failures("fuse")] == ["00001", "00003"]
    assert ledger.receipt("fuse", "00003") == RECEIPT
    assert [receipt.shard for receipt in ledger.receipts("fuse")] == ["00003"]
    ledger.commit(RECEIPT)
    assert ledger.failure("fuse", "00003") is None
    assert [note.shard for note in ledger.failures("fuse")] == ["00001"]


def test_a_receipt_needs_its_checksum(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(RECEIPT)
    path = ledger.folder / "fuse" / "00003.json"
    values = json.loads(path.read_text())
    del values["checksum"]
    path.write_text(json.dumps(values))
    assert ledger.receipt("fuse", "00003") is None


def test_a_receipt_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, disk: Disk) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(RECEIPT)
    path = ledger.folder / "fuse" / "00003.json"
    steps = [step for step, _ in disk.steps]
    assert steps == [f"fsync {path.stat().st_size} bytes", "rename", "fsync"]


def test_receipts_one_by_one_come_without_their_lists_of_files(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(replace(RECEIPT, files={"a": "1 b"}, product="c"))
    (ledger.folder / "fuse" / "00001.json").write_text("damaged")
    [found] = ledger.each("fuse")
    assert found == replace(RECEIPT, files={}, product="c")
