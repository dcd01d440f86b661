"""Reads arrays of numbers from MATLAB 5 files of data sets.

SciPy is not used, because a damaged file can crash it and the whole process. A file is
a header of 128 bytes and elements; an element is its kind and its length, four bytes each, and that
many bytes, padded to eight. An element of kind 15 is another one, compressed. An array is an
element of kind 14 whose parts are elements again: flags, shape, name, values.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from storage.files.faults import is_files_fault
from storage.files.regular import check_regular

MAX_BYTES = 1 << 28
"""Of a file, and of an element that is unpacked; the masks of a video of JHMDB have 3 million."""

_HEADER = 128
_ARRAY, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"} | {7: "f4", 9: "f8"}
_TYPES |= {12: "i8", 13: "u8"}
_NUMBERS = range(6, 16)
"""Classes of arrays that hold numbers; the others are cells, structures, text and sparse ones."""


def read_mat_array(path: Path, name: str, expected: str) -> NDArray[Any]:
    """A numeric array of a MATLAB 5 file, in the shape that MATLAB says.

    Args:
        path: the file.
        name: of the variable.
        expected: what the file should hold, for the message.

    Raises:
        InputError: the file is missing, no regular file, damaged or too large, or has no such
            array of numbers.
        OSError: it cannot be read for a reason that may pass.
    """
    remedy = "restore the file"
    try:
        if check_regular(path, expected) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes")
        return _array(path.read_bytes(), name)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(path, "no such file", expected, remedy, missing=True) from error
    except (OSError, ValueError, struct.error, zlib.error) as error:
        if not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, remedy) from error


def _array(content: bytes, name: str) -> NDArray[Any]:
    order = {b"IM": "<", b"MI": ">"}.get(content[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("no header of MATLAB 5")
    for kind, part in _elements(content[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, part = next(_elements(_unpacked(part), order), (0, b""))
        if kind != _ARRAY:
            raise ValueError(f"an element of kind {kind}")
        parts = _elements(part, order)
        (_, flags), (_, shape), (_, title) = (next(parts, (0, b"")) for _ in range(3))
        if title == name.encode():
            return _values(flags, shape, next(parts, (0, b"")), order)
    raise ValueError(f"no {name} in it")


def _values(flags: bytes, shape: bytes, values: tuple[int, bytes], order: str) -> NDArray[Any]:
    (flag,) = struct.unpack_from(f"{order}I", flags)
    sides = np.frombuffer(shape, f"{order}i4").tolist()
    kind, content = values
    if flag & 0xFF not in _NUMBERS or kind not in _TYPES:
        raise ValueError("an array that is none of numbers")
    found = np.frombuffer(content, order + _TYPES[kind])
    if min(sides, default=-1) < 0 or math.prod(sides) != len(found):
        raise ValueError(f"{len(found)} values in an array of {' x '.join(map(str, sides))}")
    return found.reshape(sides, order="F")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and bytes of each element. Raises ValueError where one is longer than what is there."""
    place = 0
    while place < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start = place + 8
        if kind >> 16:
            # A short element has its length in the kind, and at most four bytes behind it.
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if size > min(len(content) - start, 4 if start == place + 4 else MAX_BYTES):
            raise ValueError(f"a truncated element of kind {kind}: {size:,} bytes")
        yield kind, content[start : start + size]
        place = place + 8 if start == place + 4 else start + size
        if kind != _COMPRESSED:
            place += -place % 8


def _unpacked(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    found = stream.decompress(content, MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        raise ValueError("an element that swells")
    if not stream.eof:
        raise ValueError("a truncated element")
    return found
