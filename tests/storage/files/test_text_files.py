"""Text, JSON and CSV that others wrote: what is wrong with a file is one message."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from pipeline.errors import InputError
from storage.files.csv_files import read_csv_rows
from storage.files.json_files import read_json, read_json_object
from storage.files.text_files import read_text_file


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    for read in (read_csv_rows, read_json, read_json_object):
        with pytest.raises(InputError, match="x: no such file; expected words") as caught:
            read(tmp_path / "x", "words")
        assert caught.value.missing


def test_a_file_may_be_as_large_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a" * 10)
    assert read_text_file(path, "words", "do so", most_bytes=10) == "a" * 10
    with pytest.raises(InputError, match="10 bytes; expected words, in at most 9 bytes"):
        read_text_file(path, "words", "do so", most_bytes=9)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"not readable .*utf-8.*; expected words; do so"):
        read_text_file(tmp_path / "x", "words", "do so")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "malformed JSON"),
        ("{", "malformed JSON"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "malformed JSON"),
    ],
)
def test_what_is_no_json_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(InputError, match=words):
        read_json(tmp_path / "x", "values")


def test_a_caller_may_look_at_the_numbers_itself(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[1, NaN, -Infinity]")
    one, other, last = read_json(tmp_path / "x", "values", any_number=True)
    assert one == 1 and math.isnan(other) and last == -math.inf
    with pytest.raises(InputError, match="a list, not an object"):
        (tmp_path / "x").write_text("[1]")
        read_json_object(tmp_path / "x", "values")


def test_rows_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes('a,"b ""c""\r\nd"\r\n\r\n1,\u2028e\n'.encode("utf-8-sig"))
    assert read_csv_rows(path, "rows") == [["a", 'b "c"\nd'], ["1", "\u2028e"]]
    path.write_text(f"a,{'x' * 200_000}\n")
    assert [len(cell) for cell in read_csv_rows(path, "rows")[0]] == [1, 200_000], "many masks"
    limit = csv.field_size_limit(100)
    try:
        with pytest.raises(InputError, match="field larger than field limit"):
            read_csv_rows(path, "rows")
    finally:
        csv.field_size_limit(limit)
