from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path

import pytest

from pipeline.errors import InputError
from storage.files.pickles import read_plain_pickle

VALUE = [{"a": (1, 2.5, None, True)}, "b\u00e9", [10**30]]


def read(path: Path) -> object:
    return read_plain_pickle(path, "a list", "download it again")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(pickle.dumps(VALUE, protocol))
    assert read(path) == VALUE


def test_texts_of_python_2_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(b"(dp0\nS'split'\np1\nS'train'\np2\nsVid\np3\nL5L\ns.")
    assert read(path) == {"split": "train", "id": 5}


class Runs:
    """Runs a command where a pickle is read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_pickle_is_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "a.p", tmp_path / "witness"
    for value in (Runs(witness), [{"x": Runs(witness)}], {1, 2}, collections.Counter("a")):
        path.write_bytes(pickle.dumps(value, protocol=2))
        with pytest.raises(InputError, match=r"a\.p: not a plain pickle \(it names \w+\.\w+"):
            read(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", pickle.dumps(VALUE)[:-5], b"cos\nsystem\n(S'ls'\ntR.", b"(t.", b"h\x07."],
)
def test_a_damaged_file_is_one_message(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(content)
    if content == b"(t.":
        assert read(path) == ()
        return
    with pytest.raises(InputError, match=r"a\.p: not .* expected a list; download it again"):
        read(path)


def test_a_place_in_the_memo_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.p"
    path.write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")
    assert read(path) == []


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as missing:
        read(tmp_path / "none.p")
    assert missing.value.missing
    with pytest.raises(InputError, match="a folder"):
        read(tmp_path)
