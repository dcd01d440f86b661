from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.text import read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("caf\u00e9\r\nzwei\rdrei\n".encode(encoding))
    assert read_text(path) == "caf\u00e9\nzwei\ndrei\n"


def test_the_last_line_may_end_in_any_way(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for end in (b"\n", b"\r\n", b"\r"):
        path.write_bytes(b"a" + end)
        assert read_text(path) == "a\n"


def test_a_mark_overrules_the_encoding_that_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("caf\u00e9".encode("utf-8-sig"))
    assert read_text(path, "latin-1") == "caf\u00e9"
    path.write_bytes("caf\u00e9".encode("latin-1"))
    assert read_text(path, "latin-1") == "caf\u00e9"
    with pytest.raises(UnicodeDecodeError):
        read_text(path)
