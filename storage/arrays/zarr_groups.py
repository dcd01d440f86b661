"""Reads and writes the groups of the Zarr stores, and explains what is missing or damaged.

All stores are Zarr format 3. The attributes of a group state its kind and version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from storage.arrays.zarr_arrays import StoredArray, group_document, read_document, write_document
from storage.files.atomic import fresh_folder
from storage.files.names import stored_name


def create_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Creates a group with attributes. Raises FileExistsError if there is one."""
    if (path / "zarr.json").exists():
        raise FileExistsError(f"{path}: a group exists; expected none")
    write_document(path, group_document(attributes))


def open_group(path: Path, kind: str, version: int) -> dict[str, Any]:
    """Returns the attributes of a group, after checking its kind and version.

    Raises:
        StoreError: it is missing or damaged, has another kind, or is newer than ``version``.
    """
    if not (path / "zarr.json").exists():
        raise StoreError(f"{path}: no such store; expected {kind}; run the stage that writes it")
    attributes = group_attributes(path)
    check_kind(path, attributes, kind, version)
    return attributes


def open_video(
    store: Path, video_id: str, kind: str, version: int, *, product: str, stage: str
) -> Path:
    """Returns the folder of a video in the store of a shard.

    Args:
        product: what the store holds, for the message.
        stage: that writes the store, for the message.

    Raises:
        StoreError: as :func:`open_group`, or the store lacks the video.
    """
    open_group(store, kind, version)
    video = store / stored_name(video_id)
    if not (video / "zarr.json").exists():
        raise StoreError(f"{store}: no video {video_id}; expected its {product}; run {stage} again")
    return video


def check_kind(path: Path, attributes: Mapping[str, Any], kind: str, version: int) -> None:
    """Raises StoreError unless attributes state ``kind`` and a version of at most ``version``."""
    found, number = attributes.get("format"), attributes.get("FORMAT_VERSION")
    if found != kind or not isinstance(number, int) or number > version:
        raise StoreError(
            f"{path}: {found}, version {number}; expected {kind} of version {version} or earlier;"
            " use the release that wrote it"
        )


def group_attributes(path: Path) -> dict[str, Any]:
    """Returns the attributes of a group. Opens no array.

    Raises:
        StoreError: the file is missing or damaged.
    """
    try:
        attributes: dict[str, Any] = dict(read_document(path)["attributes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: no readable zarr.json ({error}); run the stage again") from error
    return attributes


def child_names(path: Path) -> list[str]:
    """Returns the names of the groups and arrays in a group, sorted, without partial files."""
    if not path.is_dir():
        return []
    return sorted(
        child.name
        for child in path.iterdir()
        if not child.name.startswith(".") and (child / "zarr.json").is_file()
    )


def read_array(folder: Path, dtype: type[np.generic]) -> NDArray[Any]:
    """Returns a whole array. Raises StoreError if it is missing, damaged or of another type."""
    with explain_damage(str(folder)):
        array = StoredArray(folder)
        if array.dtype != dtype:
            raise StoreError(f"{folder}: {array.dtype}; expected {np.dtype(dtype)}; run again")
        return array.read()


@contextmanager
def explain_damage(place: str) -> Iterator[None]:
    """Turns errors of damaged chunks and documents into a StoreError that names the place."""
    try:
        yield
    except StoreError:
        raise
    except (LookupError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise StoreError(
            f"{place}: missing or damaged ({error}); expected what the stage wrote; remove its"
            " receipt and run the stage again"
        ) from error


class ShardStoreWriter:
    """Writes the store of a shard, one video at a time. It appears if the block ends without error.

    Subclasses set ``kind`` and ``version``, and write videos to ``_folder``.

    Args:
        path: the store, ``<shard>.zarr``; an earlier one is replaced.
        fingerprint: of the stage on this shard.

    Raises:
        NoRoomError: no space is left, or the folder may not be written to.
    """

    kind: ClassVar[str]
    version: ClassVar[int]

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint

    def __enter__(self) -> Self:
        attributes = {
            "format": self.kind,
            "FORMAT_VERSION": self.version,
            "fingerprint": self._fingerprint,
        }
        with ExitStack() as stack:
            self._folder = stack.enter_context(fresh_folder(self._path, flush=True))
            create_group(self._folder, attributes)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
