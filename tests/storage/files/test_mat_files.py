from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from pipeline.errors import InputError
from storage.files import mat_files
from storage.files.mat_files import read_mat_array

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def _claimed(path: Path, shape: tuple[int, ...], packed: bool, padding: int = 0) -> Path:
    """A file of one array of bytes whose header claims a shape; it holds four of the bytes."""
    body = _element(6, struct.pack("<II", 9, 0))
    body += _element(5, struct.pack(f"<{len(shape)}i", *shape))
    body += _element(1, b"part_mask") + _element(2, b"\1\0\1\1") + b"\0" * padding
    matrix = struct.pack("<II", 14, len(body)) + body
    if packed:
        content = zlib.compress(matrix)
        matrix = struct.pack("<II", 15, len(content)) + content
    path.write_bytes(b" " * 124 + struct.pack("<H", 0x0100) + b"IM" + matrix)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_reads_back(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "m.mat"
    values = {"other": {"a": [1, "x"]}, "x": "text", "part_mask": ARRAY, "one": 1.5}
    scipy.io.savemat(path, values, do_compression=packed)
    assert read_mat_array(path, "one", "a number").tolist() == [[1.5]]
    assert np.array_equal(read_mat_array(path, "part_mask", "masks"), ARRAY)
    path = _claimed(tmp_path / "small.mat", (2, 2), packed)
    assert read_mat_array(path, "part_mask", "masks").tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(10**6, 10**6), (2**31 - 1, 2**31 - 1), (-1, -4), (3, 3), ()])
def test_a_shape_that_is_not_there_is_refused(
    tmp_path: Path, shape: tuple[int, ...], packed: bool
) -> None:
    path = _claimed(tmp_path / "m.mat", shape, packed)
    with pytest.raises(InputError, match="not readable"):
        read_mat_array(path, "part_mask", "masks")


def test_an_element_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat_files, "MAX_BYTES", 1 << 20)
    path = _claimed(tmp_path / "m.mat", (2, 2), packed=True, padding=1 << 21)
    assert path.stat().st_size < 1 << 14
    with pytest.raises(InputError, match="an element that swells"):
        read_mat_array(path, "part_mask", "masks")


@pytest.mark.parametrize("value", ["a text", {"a": 1}, np.array([1, "x"], object)])
def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path, value: object) -> None:
    scipy.io.savemat(tmp_path / "m.mat", {"part_mask": value})
    with pytest.raises(InputError, match="none of numbers"):
        read_mat_array(tmp_path / "m.mat", "part_mask", "masks")


def test_damaged_files_are_one_message(tmp_path: Path) -> None:
    """SciPy ends the process over some of these."""
    path, rng = tmp_path / "m.mat", np.random.default_rng(0)
    for packed in (False, True):
        scipy.io.savemat(path, {"part_mask": ARRAY}, do_compression=packed)
        whole = path.read_bytes()
        for number in range(300):
            content = bytearray(whole)
            for place in rng.integers(120, len(whole), 3):
                content[place] = rng.integers(256)
            path.write_bytes(
                bytes(content[: rng.integers(1, len(whole))] if number % 3 else content)
            )
            try:
                read_mat_array(path, "part_mask", "masks")
            except InputError as error:
                assert error.path == str(path)


@pytest.mark.parametrize("kind", ["a folder", "a named pipe"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.mat"
    os.mkfifo(path) if kind == "a named pipe" else path.mkdir()
    with pytest.raises(InputError, match=kind):
        read_mat_array(path, "part_mask", "masks")


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "m.mat", {"x": ARRAY})
    with pytest.raises(InputError, match="no part_mask in it"):
        read_mat_array(tmp_path / "m.mat", "part_mask", "masks")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        read_mat_array(tmp_path / "m.mat", "x", "masks")
    assert caught.value.missing


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_kind_of_number_reads_back(tmp_path: Path, kind: str) -> None:
    values = ARRAY.astype(kind)
    scipy.io.savemat(tmp_path / "m.mat", {"x": values})
    found = read_mat_array(tmp_path / "m.mat", "x", "numbers")
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


def test_a_compressed_element_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = _claimed(tmp_path / "m.mat", (2, 2), packed=True)
    content = path.read_bytes()
    short = content[136:-4]
    path.write_bytes(content[:128] + struct.pack("<II", 15, len(short)) + short)
    with pytest.raises(InputError, match="a truncated element"):
        read_mat_array(path, "part_mask", "masks")
