from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import InputError
from storage.datasets.files import is_folder, names_in, read_ids, status
from storage.files.csv_files import read_csv_rows
from storage.files.json_files import read_json_object
from tests.storage.datasets import trees


def test_the_names_in_a_folder_are_sorted(tmp_path: Path) -> None:
    for name in ("b10", "b9", "a"):
        (tmp_path / name).write_text("")
    assert names_in(tmp_path, "files") == ["a", "b9", "b10"]


def test_what_a_system_left_in_a_folder_is_no_name_of_it(tmp_path: Path) -> None:
    for name in ("00000.png", "._00000.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir"):
        (tmp_path / name).write_text("")
    (tmp_path / "__MACOSX").mkdir()
    assert names_in(tmp_path, "files") == ["00000.png"]


def test_a_folder_that_is_missing_or_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        names_in(tmp_path / "none", "frames")
    assert str(caught.value) == (
        f"{tmp_path / 'none'}: no such folder; expected frames;"
        " restore the folder or fix its rights"
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: not a folder; expected frames; do so"):
        names_in(tmp_path / "file", "frames", "do so")


def test_a_closed_folder_is_neither_empty_nor_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.refuse(monkeypatch, tmp_path, errno.EACCES)
    with pytest.raises(InputError, match=r"not readable \(Permission denied\); expected frames"):
        names_in(tmp_path, "frames")
    for ask in (status, is_folder):
        with pytest.raises(InputError, match=r"x: not readable \(Permission denied\)"):
            ask(tmp_path / "x", "a mask")


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.ESTALE, errno.EMFILE])
def test_an_error_that_may_pass_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    trees.refuse(monkeypatch, tmp_path, number)
    with pytest.raises(OSError) as listed:
        names_in(tmp_path, "frames")
    with pytest.raises(OSError) as asked:
        status(tmp_path / "x", "a mask")
    assert listed.value.errno == asked.value.errno == number


def test_the_status_of_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abc")
    found = status(tmp_path / "file", "a file")
    assert isinstance(found, os.stat_result)
    assert found.st_size == 3
    assert status(tmp_path / "none", "a file") is None
    with pytest.raises(InputError, match=r"Not a directory.*expected a mask"):
        status(tmp_path / "file" / "below", "a mask")
    assert [is_folder(path, "") for path in (tmp_path, tmp_path / "file", tmp_path / "none")] == [
        True,
        False,
        False,
    ]


def test_ids_are_read_between_white_space(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    assert read_ids(path) is None
    path.write_text("a b\n\n c\n")
    assert read_ids(path) == {"a", "b", "c"}
    path.write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match=r"ids\.txt: not readable .*UTF-8"):
        read_ids(path)
    with pytest.raises(InputError, match="a folder; expected ids"):
        read_ids(tmp_path)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ETIMEDOUT, OSError), (errno.ESTALE, OSError), (errno.EACCES, InputError)],
)
@pytest.mark.parametrize(
    "read",
    [read_ids, lambda path: read_csv_rows(path, "rows"), lambda path: read_json_object(path, "{}")],
)
def test_a_file_is_at_fault_only_for_what_will_not_pass(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    number: int,
    kind: type[Exception],
) -> None:
    def opened(path: Path, *arguments: object, **named: object) -> object:
        raise OSError(number, os.strerror(number), str(path))

    path = tmp_path / "file"
    path.write_text("{}")
    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "read_text", opened)
    with pytest.raises((InputError, OSError)) as caught:
        read(path)
    assert isinstance(caught.value, kind)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": 1234}')
    assert read_json_object(path, "an index", 11) == {"a": 1234}
    with pytest.raises(InputError, match="11 bytes; expected an index, in at most 10 bytes"):
        read_json_object(path, "an index", 10)
