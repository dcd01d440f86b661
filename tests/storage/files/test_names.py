from __future__ import annotations

import pytest

from pipeline.errors import InputError
from storage.files.names import is_safe_name, published_name, safe_name, stored_name


@pytest.mark.parametrize("name", ["__KkKB4wzrY", "_a", "-a", "zarr.json", "a.partial", "100%", "%"])
def test_published_ids_are_kept_and_stored_under_names_that_are_free(name: str) -> None:
    assert safe_name(name, "x", "video id") == name
    stored = stored_name(name)
    assert not stored.startswith("__")
    assert not stored.endswith(".partial")
    assert stored != "zarr.json"
    assert published_name(stored) == name


def test_no_two_names_are_stored_as_one() -> None:
    names = ["a", "__a", "%__a%", "%%__a%%", "%a", "a%", "zarr.json", "%zarr.json%"]
    assert len(set(map(stored_name, names))) == len(names)


@pytest.mark.parametrize(
    "name", ["", " a", ".", "..", ".a", "a/b", "a\\b", "a:b", "a\0", "x" * 201, "\ud800", 7, None]
)
def test_what_cannot_be_one_part_of_a_path_is_refused(name: object) -> None:
    assert not is_safe_name(name)
    with pytest.raises(InputError, match="video id"):
        safe_name(name, "x", "video id")


@pytest.mark.parametrize("letter", ["\x00", "\x1f", "\x7f"])
def test_control_characters_are_refused_and_their_neighbours_are_not(letter: str) -> None:
    assert not is_safe_name(f"a{letter}b")
    assert all(is_safe_name(f"a{other}b") for other in (" ", "~", "\x80", "\u00e9"))


def test_names_are_measured_in_bytes() -> None:
    assert is_safe_name("x" * 200)
    assert is_safe_name("\u00e9" * 100)
    assert not is_safe_name("\u00e9" * 100 + "x")
