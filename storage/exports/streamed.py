"""Masks in a server's layout as they are made: a folder or a zip that grows video by video.

``Annotations/<video>/<expression>/<frame>.png``, 8-bit grey, 0 or 255; MeViS without the top
folder. In a folder, scores may come with them: ``Scores/<video>/<expression>/<frame>.png``, 16-bit
grey, 65535 for the probability 1. Memory holds one mask; of a zip, the PNGs of a video.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from storage.files.atomic import fresh_folder, replace_file
from storage.files.images import png_of, png_of_scores
from storage.files.names import safe_name
from storage.predictions import SCORES

WITHOUT_TOP_FOLDER = frozenset({"mevis", "mevis_v2"})


class AddMask(Protocol):
    """Adds the mask [H, W] of a frame of a video, and, where the sink keeps them, its scores
    uint16 [H, W]."""

    def __call__(
        self,
        expression: str,
        frame: str,
        mask: NDArray[np.bool_],
        scores: NDArray[np.uint16] | None = None,
    ) -> None: ...


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
        scores: whether scores are kept too.
    """

    def __init__(self, path: Path, dataset: str, scores: bool = False) -> None:
        top = path if dataset in WITHOUT_TOP_FOLDER else path / "Annotations"
        self._tops = [top, path / SCORES] if scores else [top]

    def has(self, video: str) -> bool:
        return all((top / safe_name(video, top, "video id")).is_dir() for top in self._tops)

    @contextmanager
    def video(self, video: str) -> Iterator[AddMask]:
        places = [top / safe_name(video, top, "video id") for top in self._tops]
        with ExitStack() as stack:
            # The masks' folder appears last.
            folders = [stack.enter_context(fresh_folder(place)) for place in places]

            def add(
                expression: str,
                frame: str,
                mask: NDArray[np.bool_],
                scores: NDArray[np.uint16] | None = None,
            ) -> None:
                safe_name(frame, places[0], "frame name")
                kept = [png_of(mask), *([] if scores is None else [png_of_scores(scores)])]
                for folder, content in zip(folders, kept, strict=True):
                    home = folder / safe_name(expression, places[0], "expression id")
                    home.mkdir(exist_ok=True)
                    (home / f"{frame}.png").write_bytes(content)

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

        def add(
            expression: str,
            frame: str,
            mask: NDArray[np.bool_],
            scores: NDArray[np.uint16] | None = None,
        ) -> None:
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
def open_sink(path: Path, dataset: str, scores: bool = False) -> Iterator[MaskSink]:
    """A zip where the path ends in ``.zip``, which is there once the block ends; else a folder.

    Args:
        path, dataset, scores: as of :class:`FolderSink`; a zip keeps no scores.

    Raises:
        StoreError: no space is left, or the place may not be written to.
    """
    if path.suffix == ".zip":
        with replace_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            yield ZipSink(archive, dataset)
        return
    path.mkdir(parents=True, exist_ok=True)
    yield FolderSink(path, dataset, scores)
