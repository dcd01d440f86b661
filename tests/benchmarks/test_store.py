import pytest

from benchmarks.store import HELD_TO, measure


@pytest.mark.slow
def test_both_sides_hold_the_same_masks_and_the_store_is_no_larger() -> None:
    found = measure(count=1, frames=8, passes=1, clips=3)
    assert found["masks"] >= 16
    for mode in ("P", "1"):
        row = found[f"png, mode {mode}"]
        assert row["times the bytes"] <= HELD_TO["times the bytes"]
        assert row["times as fast to write"] == row["write"] / found["store"]["write"]
    assert found["random frame, ms"] > 0
    assert found["loader, frames/s"] > 0
