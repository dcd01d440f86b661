import pytest

from benchmarks.faults import measure, redone


def test_what_is_done_again_is_what_was_finished_before() -> None:
    before = {("ground", "00000"): 1.0, ("ground", "00001"): 2.0, ("fuse", "00000"): 3.0}
    after = {("ground", "00000"): 1.0, ("ground", "00001"): 9.0, ("ground", "00002"): 9.0}
    assert redone(before, after) == 2
    assert redone({}, after) == 0


@pytest.mark.slow
def test_a_run_survives_kills_a_full_disk_and_a_lost_server() -> None:
    rows = measure(count=2, seed=1, bytes_too=False)
    assert len(rows) == 5
    assert [row.outcome for row in rows if not row.well] == []
