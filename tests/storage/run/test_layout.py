import json
from pathlib import Path

import pytest

from pipeline.errors import StoreError
from pipeline.types import Receipt
from storage.files.sealed_json import write_sealed
from storage.run.layout import (
    known_layout,
    layout_of_receipts,
    layout_path,
    read_layout,
    write_layout,
)
from storage.run.ledger import Ledger

LAYOUT = {"00000": ("a", "b"), "00001": ("c",)}
STAGES = ("augment", "rank")


def test_a_layout_reads_back(tmp_path: Path) -> None:
    assert read_layout(tmp_path) == {}
    write_layout(tmp_path, LAYOUT)
    assert read_layout(tmp_path) == LAYOUT
    assert Ledger(tmp_path).receipts("layout") == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"format": "other", "FORMAT_VERSION": 1, "shards": {}},
        {"format": "pseudolabels.layout", "FORMAT_VERSION": 1, "shards": {"../x": ["a"]}},
        {"format": "pseudolabels.layout", "FORMAT_VERSION": 1, "shards": {"0": ["/etc"]}},
        {"format": "pseudolabels.layout", "FORMAT_VERSION": 1, "shards": {"0": [7]}},
        {"format": "pseudolabels.layout", "FORMAT_VERSION": "1", "shards": {}},
        {"format": "pseudolabels.layout", "FORMAT_VERSION": 1, "shards": 3},
    ],
)
def test_what_is_no_layout_is_an_error_and_the_receipts_have_it(
    tmp_path: Path, values: dict[str, object]
) -> None:
    Ledger(tmp_path).commit(Receipt("augment", "00000", "f", ("a", "b")))
    layout_path(tmp_path).write_text(json.dumps(values))
    with pytest.raises(StoreError, match=r"layout\.json"):
        read_layout(tmp_path)
    assert known_layout(tmp_path, STAGES) == {"00000": ("a", "b")}


def test_a_damaged_layout_is_made_anew_wherever_the_run_lies(tmp_path: Path) -> None:
    run = tmp_path / "earlier-runs"
    Ledger(run).commit(Receipt("augment", "00000", "f", ("a", "b")))
    layout_path(run).write_text("{")
    assert known_layout(run, STAGES) == {"00000": ("a", "b")}


def test_a_newer_layout_is_refused(tmp_path: Path) -> None:
    write_layout(tmp_path, LAYOUT)
    values = json.loads(layout_path(tmp_path).read_text())
    del values["checksum"]
    write_sealed(layout_path(tmp_path), values | {"FORMAT_VERSION": 2})
    for read in (read_layout, lambda folder: known_layout(folder, STAGES)):
        with pytest.raises(StoreError, match="1 or earlier"):
            read(tmp_path)


def test_receipts_tell_the_layout_the_first_stage_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.commit(Receipt("augment", "00000", "f", ("a",)))
    ledger.commit(Receipt("rank", "00000", "f", ("a", "b")))
    ledger.commit(Receipt("rank", "00001", "f", ("a", "c")))
    assert layout_of_receipts(ledger, STAGES) == {"00000": ("a",), "00001": ("c",)}
    assert known_layout(tmp_path, STAGES) == {"00000": ("a",), "00001": ("c",)}
