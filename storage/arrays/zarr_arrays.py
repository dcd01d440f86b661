"""Reads and writes the arrays of the Zarr stores.

zarr-python runs a task for every document and every chunk, which for small arrays costs many times
the work itself. This module makes and reads the same bytes with the same codec (``docs/format.md``;
tests compare them), without tasks. Arrays that are stored in another way than :func:`write_array`
does are read with zarr-python.

An array is a folder with a document, ``zarr.json``, and one file per chunk of rows,
``c/<chunk>/0/…`` with a 0 for each further axis. A chunk of zeros has no file. The last chunk is
padded with zeros.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

if TYPE_CHECKING:
    import zarr

BLOSC = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
FOR_LOGITS = Blosc(cname="zstd", clevel=1, shuffle=Blosc.NOSHUFFLE)
"""For the logits of masks in steps of a byte (``benchmarks/codecs.py``)."""
_SHUFFLES = {Blosc.NOSHUFFLE: "noshuffle", Blosc.BITSHUFFLE: "bitshuffle"}

_HEADER_BYTES = 16


def array_document(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    chunk: Sequence[int],
    codecs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns ``zarr.json`` of an array whose missing chunks are zeros, keys in zarr's order.

    Args:
        chunk: shape of a chunk.
        codecs: of a chunk.
    """
    return {
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.type(0).item(),
        "codecs": list(codecs),
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def group_document(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns ``zarr.json`` of a group, keys in zarr's order."""
    return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a ``zarr.json``, formatted as by zarr-python."""
    return json.dumps(document, indent=2).encode("ascii")


def write_document(folder: Path, document: Mapping[str, Any]) -> None:
    """Writes the document of an array or a group, over an earlier one."""
    folder.mkdir(exist_ok=True)
    (folder / "zarr.json").write_bytes(document_bytes(document))


def read_document(folder: Path) -> dict[str, Any]:
    """Returns the document of an array or a group.

    Raises:
        OSError, ValueError: it is missing, or not a JSON object.
    """
    document: Any = json.loads((folder / "zarr.json").read_bytes())
    if not isinstance(document, dict):
        raise ValueError(f"zarr.json holds a {type(document).__name__}; expected an object")
    return document


def is_stored_as(document: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether a document equals an expected one, except for its attributes."""
    return {**document, "attributes": {}} == expected


def write_array(
    folder: Path,
    values: NDArray[Any],
    chunk_rows: int | None = None,
    *,
    start: int = 0,
    codec: Blosc = BLOSC,
) -> None:
    """Writes a compressed array to its folder, or appends rows to it.

    Args:
        folder: of the array; its parent exists.
        values: [n, ...], at least one axis; n may be 0.
        chunk_rows: rows of a chunk; None for one chunk.
        start: number of rows that the array already has, a multiple of ``chunk_rows``.
        codec: compresses the chunks.

    Raises:
        OSError: no space is left, or the folder may not be written to.
    """
    shape = (start + len(values), *values.shape[1:])
    rows = max(1, shape[0] if chunk_rows is None else min(chunk_rows, shape[0]))
    shuffle = _SHUFFLES[codec.shuffle]
    document = _own_document(shape, values.dtype, rows, codec.cname, codec.clevel, shuffle)
    write_document(folder, document)
    if not values.size:
        return
    for first in range(0, len(values), rows):
        part = np.ascontiguousarray(values[first : first + rows])
        # Compare bits, because a missing chunk stands for 0.0 and not for -0.0.
        if not part.view(np.uint8).any():
            continue
        if len(part) < rows:
            rest = np.zeros((rows - len(part), *shape[1:]), part.dtype)
            part = np.concatenate([part, rest])
        path = _chunk_path(folder, (start + first) // rows, len(shape))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(codec.encode(part))


class StoredArray:
    """An array in chunks of rows, read whole or in ranges of chunks.

    Args:
        folder: of the array.

    Attributes:
        shape: rows, and what a row is.
        dtype: of the values.
        chunk_rows: rows of a chunk; the last one may have fewer.

    Raises:
        OSError, LookupError, ValueError, TypeError: it is missing or damaged, or is a group.
    """

    def __init__(self, folder: Path) -> None:
        document = read_document(folder)
        if document.get("node_type") != "array":
            raise ValueError(f"a {document.get('node_type')}; expected an array")
        self._folder = folder
        self._other = None if _is_own(document) else open_array(folder)
        if self._other is None:
            self.shape: tuple[int, ...] = tuple(document["shape"])
            self.dtype: np.dtype[Any] = np.dtype(document["data_type"])
            self.chunk_rows: int = document["chunk_grid"]["configuration"]["chunk_shape"][0]
        else:
            self.shape, self.chunk_rows = self._other.shape, self._other.chunks[0]
            self.dtype = np.dtype(self._other.dtype)

    @property
    def row_bytes(self) -> int:
        """Returns the bytes of a row in memory."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def read(self, first: int = 0, last: int | None = None) -> NDArray[Any]:
        """Returns the rows of the chunks from ``first`` up to but without ``last``; None for all.

        Raises:
            OSError, ValueError, RuntimeError: a chunk cannot be read, or is damaged.
        """
        if last is None:
            last = -(-self.shape[0] // self.chunk_rows)
        low, high = first * self.chunk_rows, min(last * self.chunk_rows, self.shape[0])
        if self._other is not None:
            return np.asarray(self._other[low:high])
        found = np.zeros(((last - first) * self.chunk_rows, *self.shape[1:]), self.dtype)
        for number in range(first, last) if found.size else ():
            place = (number - first) * self.chunk_rows
            self._decode(number, found[place : place + self.chunk_rows])
        return found[: high - low]

    def _decode(self, number: int, out: NDArray[Any]) -> None:
        """Fills ``out`` with a chunk. Leaves it as it is if there is no file."""
        path = _chunk_path(self._folder, number, len(self.shape))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
        # Blosc's header says the bytes before and after compression, and blosc believes it.
        before, after = (int.from_bytes(content[at : at + 4], "little") for at in (4, 12))
        if len(content) < _HEADER_BYTES or (before, after) != (out.nbytes, len(content)):
            raise ValueError(
                f"chunk {number} has {len(content)} bytes and says {after} bytes of {before};"
                f" expected {out.nbytes}"
            )
        BLOSC.decode(content, out=out)


def open_array(folder: Path) -> zarr.Array[Any]:
    """Opens an array with zarr-python."""
    # Import it here, because arrays of the project's own need only numcodecs.
    import zarr

    with known_codecs():
        return zarr.open_array(folder, mode="r", zarr_format=3)


@contextmanager
def known_codecs() -> Iterator[None]:
    """Silences zarr's warning that packbits is not in the Zarr 3 specification.

    ``docs/format.md`` states this, and every zarr-python with numcodecs reads it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        yield


def _own_document(
    shape: Sequence[int],
    dtype: np.dtype[Any],
    rows: int,
    cname: str,
    clevel: int,
    shuffle: str,
) -> dict[str, Any]:
    """Returns the document of an array that :func:`write_array` writes."""
    order = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    blosc = {
        "typesize": dtype.itemsize,
        "cname": cname,
        "clevel": clevel,
        "shuffle": shuffle,
        "blocksize": 0,
    }
    codecs = [{"name": "bytes", **order}, {"name": "blosc", "configuration": blosc}]
    return array_document(shape, dtype, (rows, *(max(1, side) for side in shape[1:])), codecs)


def _is_own(document: Mapping[str, Any]) -> bool:
    """Whether an array is stored as by :func:`write_array`, with any compressor of Blosc."""
    try:
        rows = document["chunk_grid"]["configuration"]["chunk_shape"][0]
        dtype = np.dtype(document["data_type"])
        blosc = document["codecs"][1]["configuration"]
        expected = {}
        if dtype.kind in "biuf":
            expected = _own_document(
                document["shape"], dtype, rows, blosc["cname"], blosc["clevel"], blosc["shuffle"]
            )
    except (LookupError, TypeError, ValueError):
        return False
    return is_stored_as(document, expected)


def _chunk_path(folder: Path, number: int, axes: int) -> Path:
    return Path(folder, "c", str(number), *["0"] * (axes - 1))
