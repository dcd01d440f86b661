"""What the Zarr stores share: opening with clear errors, and arrays with the project's codecs.

All stores are Zarr format 3. A group's kind and version are in its attributes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import zarr
import zarr.errors
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from pipeline.errors import StoreError
from storage.atomic import fresh_folder


def create_group(path: Path, attributes: Mapping[str, Any]) -> zarr.Group:
    """A new group at a path that holds nothing yet, with its attributes."""
    return zarr.create_group(path, zarr_format=3, attributes=dict(attributes))


def open_group(path: Path, kind: str, version: int) -> zarr.Group:
    """The group at a path, for reading.

    Raises:
        StoreError: it is missing or damaged, is of another kind, or newer than ``version``.
    """
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except (zarr.errors.GroupNotFoundError, FileNotFoundError) as error:
        raise StoreError(
            f"{path}: no such store; expected {kind}; run the stage that writes it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not a Zarr group ({error}); expected {kind}; remove it and run again"
        ) from error
    check_kind(path, group.attrs.asdict(), kind, version)
    return group


def check_kind(path: Path, attributes: Mapping[str, Any], kind: str, version: int) -> None:
    """Raises StoreError unless the attributes say ``kind`` in ``version`` or an earlier one."""
    found, number = attributes.get("format"), attributes.get("FORMAT_VERSION")
    if found != kind or not isinstance(number, int) or number > version:
        raise StoreError(
            f"{path}: {found}, version {number}; expected {kind} of version {version} or earlier;"
            " use the release that wrote it"
        )


def group_attributes(path: Path) -> dict[str, Any]:
    """The attributes of a group, out of its ``zarr.json`` alone: listing opens no array.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        attributes: dict[str, Any] = dict(document["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: no readable zarr.json ({error}); run the stage again") from error
    return attributes


def child_names(path: Path) -> list[str]:
    """The names of the groups and arrays in a group, sorted; partials left out."""
    if not path.is_dir():
        return []
    return sorted(
        child.name
        for child in path.iterdir()
        if not child.name.startswith(".") and (child / "zarr.json").is_file()
    )


def child_group(store: zarr.Group, name: str) -> zarr.Group | None:
    """A group of a group; None where there is none. Raises StoreError if it is damaged."""
    with explain_damage(f"{store.store_path}/{name}"):
        return store.require_group(name) if name in store else None


def write_array(
    group: zarr.Group, name: str, values: NDArray[Any], chunk_rows: int | None = None
) -> zarr.Array[Any]:
    """Adds an array, compressed; in one chunk, or in chunks of rows."""
    shape = values.shape
    rows = max(1, shape[0] if chunk_rows is None else min(chunk_rows, shape[0]))
    array = group.create_array(
        name,
        shape=shape,
        dtype=values.dtype,
        chunks=(rows, *(max(1, side) for side in shape[1:])),
        compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")],
        fill_value=values.dtype.type(0),
    )
    if values.size:
        array[...] = values
    return array


def read_array(group: zarr.Group, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """A whole array. Raises StoreError if it is missing, damaged or of another type."""
    with explain_damage(f"{group.store_path}/{name}"):
        values = np.asarray(open_array(group, name)[...])
    if values.dtype != dtype:
        raise StoreError(
            f"{group.store_path}/{name}: {values.dtype}; expected {np.dtype(dtype)}; run again"
        )
    return values


def open_array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of a group, nothing read yet. Raises StoreError if it is not there."""
    with known_codecs(), explain_damage(f"{group.store_path}/{name}"):
        array = group[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}/{name}: a group; expected an array; run again")
    return array


@contextmanager
def explain_damage(place: str) -> Iterator[None]:
    """Turns what a damaged chunk or document raises into a StoreError that names it."""
    try:
        yield
    except StoreError:
        raise
    except (LookupError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise StoreError(
            f"{place}: missing or damaged ({error}); expected what the stage wrote; remove its"
            " receipt and run the stage again"
        ) from error


@contextmanager
def known_codecs() -> Iterator[None]:
    """Silences zarr's note that packbits is numcodecs' and not in the Zarr 3 specification.

    ``docs/format.md`` states it, and every zarr-python with numcodecs reads it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        yield


class ShardStoreWriter:
    """Writes the store of a shard, a video at a time; it appears when the block ends without error.

    A kind of store names its ``kind`` and ``version`` and says how a video goes into ``_group``.

    Args:
        path: the store, ``<shard>.zarr``; what it held before is replaced.
        fingerprint: of the stage on this shard.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(fresh_folder(self._path))
        attributes = {
            "format": self.kind,
            "FORMAT_VERSION": self.version,
            "fingerprint": self._fingerprint,
        }
        self._group = create_group(folder, attributes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
