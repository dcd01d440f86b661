import time

import pytest

from flows.report.stage_table import stage_rows
from flows.timing import BUSY, FRAMES, WRITES, Meter, in_words, shares
from pipeline.types import Receipt
from storage.run.ledger import Ledger
from tests.flows.conftest import Site


def receipt(seconds: float, **counts: float) -> Receipt:
    return Receipt("segment", "00000", "", (), counts=dict(counts), seconds=seconds)


def test_time_counts_even_where_the_work_fails() -> None:
    meter = Meter()
    with pytest.raises(ValueError, match="no luck"), meter.measure(BUSY):
        time.sleep(0.01)
        raise ValueError("no luck")
    assert meter.seconds[BUSY] >= 0.01
    assert meter.seconds[FRAMES] == meter.seconds[WRITES] == 0


def test_shares_are_of_the_seconds_of_the_receipts_that_say() -> None:
    told = [
        receipt(10, **{BUSY: 9, FRAMES: 0.5, WRITES: 0.25}),
        receipt(30, **{BUSY: 27, FRAMES: 1.5, WRITES: 0.75}),
        receipt(60),
    ]
    assert shares(told) == pytest.approx({"busy": 0.9, "frames": 0.05, "writes": 0.025})
    assert in_words(told) == "busy 90%, frames 5%, writes 2%"
    [row] = stage_rows(told)
    assert row["busy, percent"] == 90
    assert row["waits for frames, percent"] == 5


def test_earlier_receipts_say_nothing() -> None:
    assert shares([receipt(10)]) == {}
    assert in_words([]) == ""
    [row] = stage_rows([receipt(10)])
    assert row["busy, percent"] is None


def test_a_run_says_where_its_time_went_and_no_fingerprint_knows(site: Site) -> None:
    site.run()
    found = Ledger(site.folder).receipt("segment", "00000")
    assert found is not None
    assert 0 < found.counts[BUSY] <= found.seconds
    assert found.counts[FRAMES] > 0
    assert BUSY not in str(found.basis)
    assert "busy" in site.shown
    page = (site.folder / "report" / "index.html").read_text()
    assert "waits for frames" in page.lower()
    assert "seconds busy" not in page
