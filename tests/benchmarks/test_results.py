"""The results table of README.md."""

from __future__ import annotations

import pytest

from benchmarks.results import MARK, table, with_table


def test_the_table_is_replaced_and_the_text_around_it_stays() -> None:
    rows = table(
        {
            "pseudo_masks": {"overall": {"J&F": 87.31}},
            "student": {"visible_frames": {"missed": 0.04}},
        }
    )
    page = f"a\n{MARK}\nbefore\n\n| old |\n|---|\n| 1 |\n\nafter\n{MARK}\nz"
    found = with_table(page, rows)
    assert "| J&F | 87.3 | – | – |" in found
    assert "| visible frames missed | – | – | 0.0 |" in found
    assert "old" not in found
    assert found.startswith(f"a\n{MARK}\nbefore\n\n| in percent")
    assert found.endswith(f"|\n\nafter\n{MARK}\nz")


def test_a_page_without_a_table() -> None:
    with pytest.raises(ValueError, match="no table"):
        with_table(f"{MARK}text{MARK}", "| |")
