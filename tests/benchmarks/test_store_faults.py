import pytest

from benchmarks.store_faults import measure


@pytest.mark.slow
def test_a_run_in_an_object_store_survives_kills_and_refuses_a_second_writer() -> None:
    rows = measure(count=2, seed=1)
    assert len(rows) == 3
    assert [row.outcome for row in rows if not row.well] == []
