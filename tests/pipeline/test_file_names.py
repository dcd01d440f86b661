from __future__ import annotations

import pytest

from pipeline.file_names import folded, is_foreign, natural_order


def test_numbers_in_names_count_by_value() -> None:
    names = ["b1", "a10", "a9", "a09", "a", "10", "9", "a9b2", "a9b10", f"x{'9' * 5000}", "x1"]
    assert sorted(names, key=natural_order) == [
        "9",
        "10",
        "a",
        "a09",
        "a9",
        "a9b2",
        "a9b10",
        "a10",
        "b1",
        "x1",
        f"x{'9' * 5000}",
    ]


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db", "THUMBS.DB", "__MACOSX"])
def test_what_systems_leave_is_foreign(name: str) -> None:
    assert is_foreign(name)


@pytest.mark.parametrize("name", ["0.png", "__KkKB4wzrY", "thumbs", "_0"])
def test_what_belongs_to_data_is_not(name: str) -> None:
    assert not is_foreign(name)


def test_letters_that_look_equal_and_suffixes_fold() -> None:
    assert folded("cafe\u0301.PNG") == folded("caf\u00e9.png") != folded("Caf\u00e9.png")
