"""Masks in a server's layout as they are made: a folder or a zip that grows video by video.

``Annotations/<video>/<expression>/<frame>.png``, 8-bit grey, 0 or 255; MeViS without the top
folder. Memory holds one mask; of a zip, the PNGs of a video.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.files.atomic import fresh_folder, replace_file
from storage.files.images import png_of
from storage.files.names import safe_name

WITHOUT_TOP_FOLDER = frozenset({"mevis"})


class AddMask(Protocol):
    """Adds the mask [H, W] of a frame of a video."""

    def __call__(self, expression: str, frame: str, mask: NDArray[np.bool_]) -> None: ...


class MaskSink(Protocol):
    """Takes the masks of videos, one after the other."""

    def has(self, video: str) -> bool:
        """Whether a video is there already, whole."""
        ...

    def video(self, video: str) -> AbstractContextManager[AddMask]:
        """Takes the masks of a video; it counts when the block ends without an error."""
        ...


class FolderSink:
    """A folder; a video appears whole, so that what was cut off goes on with the next one.

    Args:
        path: of the folder.
        dataset: name of the data set's reader, which says whether there is a top folder.
    """

    def __init__(self, path: Path, dataset: str) -> None:
        self._top = path if dataset in WITHOUT_TOP_FOLDER else path / "Annotations"

    def has(self, video: str) -> bool:
        return (self._top / safe_name(video, self._top, "video id")).is_dir()

    @contextmanager
    def video(self, video: str) -> Iterator[AddMask]:
        place = self._top / safe_name(video, self._top, "video id")
        with fresh_folder(place) as folder:

            def add(expression: str, frame: str, mask: NDArray[np.bool_]) -> None:
                home = folder / safe_name(expression, place, "expression id")
                home.mkdir(exist_ok=True)
                name = safe_name(frame, place, "frame name")
                (home / f"{name}.png").write_bytes(png_of(mask))

            yield add


class ZipSink:
    """A zip file, without compression; to be used where it gets its name when it is whole, as
    :func:`open_sink` does.

    Args:
        archive: open for writing.
        dataset: name of the data set's reader, which says whether there is a top folder.
    """

    def __init__(self, archive: zipfile.ZipFile, dataset: str) -> None:
        self._archive = archive
        self._top = "" if dataset in WITHOUT_TOP_FOLDER else "Annotations/"

    def has(self, video: str) -> bool:
        return False

    @contextmanager
    def video(self, video: str) -> Iterator[AddMask]:
        home = self._top + safe_name(video, "export", "video id")
        files: list[tuple[str, bytes]] = []

        def add(expression: str, frame: str, mask: NDArray[np.bool_]) -> None:
            folder = safe_name(expression, home, "expression id")
            name = safe_name(frame, home, "frame name")
            content = png_of(mask) if mask.any() else _empty_png(*mask.shape)
            files.append((f"{home}/{folder}/{name}.png", content))

        yield add
        for place, content in files:
            # A fixed time: equal masks make equal files. PNGs are compressed already.
            self._archive.writestr(zipfile.ZipInfo(place), content)


@lru_cache(maxsize=8)
def _empty_png(height: int, width: int) -> bytes:
    return png_of(np.zeros((height, width), np.bool_))


@contextmanager
def open_sink(path: Path, dataset: str) -> Iterator[MaskSink]:
    """A zip where the path ends in ``.zip``, which is there once the block ends; else a folder.

    Raises:
        StoreError: no space is left, or the place may not be written to.
    """
    if path.suffix == ".zip":
        with replace_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            yield ZipSink(archive, dataset)
        return
    path.mkdir(parents=True, exist_ok=True)
    yield FolderSink(path, dataset)
