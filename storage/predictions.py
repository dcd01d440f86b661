"""Reads predictions of any method as PNG files, in a folder or a zip that may be broken.

Missing, misplaced or broken files do not raise; they are noted, and an evaluation counts them.
Letters: T frames, H W pixels.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.file_names import composed, is_foreign, natural_order
from storage.files.images import read_mask, read_scores
from storage.files.listing import data_names, spelled

TOPS = ("", "Annotations", "Annotations/480p", "480p")
"""Folders in which the videos of a submission or of a DAVIS result lie."""

SCORES = "Scores"
"""Folder of the scores of a submission's masks, beside its own."""


SHOWN_NAMES = 5
"""Of what is at the top, where no video is."""

T = TypeVar("T")

MAX_ENTRY_BYTES = 1 << 26
"""Of one PNG in an archive; a small archive can claim to hold terabytes."""

_DAMAGE = (
    KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip
"""What reading a damaged, encrypted or exotic archive raises; NotImplementedError is a
RuntimeError."""


class PredictionTree:
    """PNG files by video.

    Args:
        root: a folder or a zip.
        videos: ids that are expected, by which the folder that holds them is found.
        top: the folder that holds them; None to find it.

    Attributes:
        problems: what was found missing, misplaced or broken, a sentence each, in order.

    Raises:
        InputError: the root does not exist, or is neither.
    """

    def __init__(self, root: Path, videos: Collection[str], top: str | None = None) -> None:
        self.root = root
        self.problems: list[str] = []
        self._archive: zipfile.ZipFile | None = None
        self._children: dict[str, set[str]] = {}
        self._entries: dict[str, str] = {}
        if root.is_file():
            self._open_archive()
        elif not root.is_dir():
            expected, remedy = "a folder or zip of PNG masks", "check the path"
            raise InputError(root, "no such folder or file", expected, remedy, missing=True)
        self.top = self._find_top(videos) if top is None else top
        strays = sorted(self._names(self.top) - set(map(composed, videos)))
        if self.top == "":
            strays = [name for name in strays if name not in ("Annotations", "480p", SCORES)]
        self.problems += [f"{name}: not a video of the data set; left out" for name in strays]

    def names(self, *parts: str) -> set[str]:
        """Returns the names in a folder below a video's; empty if there is no such folder.

        Hidden files, and those that a system keeps for itself, are none of them. Letters and
        accents are composed, in which way the files' names may be spelled.
        """
        return self._names("/".join([self.top, *parts] if self.top else parts))

    def has_scores(self) -> bool:
        """Whether scores lie beside the masks."""
        return bool(self._names(SCORES))

    def mask(self, parts: Sequence[str], size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
        """Returns an index mask [H, W]; None, with a note, if there is none that fits.

        Args:
            parts: such as (video, expression, frame), the frame without suffix.
            size: (H, W) that it must have; None for any.
        """
        return self._picture(parts, size, read_mask)

    def scores(
        self, parts: Sequence[str], size: tuple[int, int] | None
    ) -> NDArray[np.float32] | None:
        """Returns scores in [0, 1], [H, W]. Arguments and None as of :meth:`mask`."""
        return self._picture(parts, size, read_scores)

    def _picture(
        self, parts: Sequence[str], size: tuple[int, int] | None, read: Callable[..., T]
    ) -> T | None:
        place = "/".join([*([self.top] if self.top else []), *parts]) + ".png"
        try:
            if self._archive is None:
                return read(self._path(place), size)
            try:
                content = self._content(self._archive, self._entries[composed(place)])
            except InputError:
                raise
            except _DAMAGE as error:
                found = f"not in the archive ({error})"
                raise InputError(place, found, "a PNG", "add it", missing=True) from error
            return read(self.root / place, size, content)
        except InputError as error:
            if error.missing:
                self.problems.append(f"{'/'.join(parts)}: missing")
            else:
                self.problems.append(f"{'/'.join(parts)}: {error.found}, not {error.expected}")
            return None

    def clip(
        self,
        parts: Sequence[str],
        frames: Sequence[str],
        size: tuple[int, int],
        known: Sequence[str] = (),
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns the index masks of a clip [T, H, W], and which of its frames exist [T].

        A frame that is not there is empty. Where none is, one problem is noted in place of T, with
        the files that are there; files that are no frame of the clip are noted once.
        """
        ids = np.zeros((len(frames), *size), np.uint8)
        there = np.zeros(len(frames), np.bool_)
        if not self.covers(parts, frames, known):
            return ids, there
        for index, name in enumerate(frames):
            mask = self.mask([*parts, name], size)
            if mask is not None:
                ids[index], there[index] = mask, True
        return ids, there

    def covers(
        self, parts: Sequence[str], frames: Sequence[str], known: Sequence[str] = ()
    ) -> bool:
        """Returns whether any frame of a clip is there, and notes what :meth:`clip` notes once."""
        if not frames:
            return False
        found = self.names(*parts)
        wanted = {composed(f"{name}.png") for name in frames}
        if not found & wanted:
            self.problems.append(f"{'/'.join(parts)}: {self._nothing_of(frames, found)}")
            return False
        found = {name for name in found if name.lower().endswith(".png")}
        if odd := sorted(found - wanted - {composed(f"{name}.png") for name in known}):
            self.problems.append(
                f"{'/'.join(parts)}: {len(odd)} files that are no frame of it, such as"
                f" {odd[0]}; left out"
            )
        return True

    def _nothing_of(self, frames: Sequence[str], found: set[str]) -> str:
        """What is said of a clip none of whose frames is there."""
        count = f"all {len(frames)} frames" if len(frames) > 1 else "its one frame"
        if not found:
            return f"missing, {count}"
        example = min(found, key=natural_order)
        return (
            f"missing, {count}: what is there ({len(found)}) has other names, such as {example};"
            f" expected such as {frames[0]}.png"
        )

    def _path(self, place: str) -> Path:
        """The path of a file in the folder, whose names may be spelled with other characters."""
        path = self.root
        for part in place.split("/") if place else ():
            path = path / part if part.isascii() else spelled(path, part)
        return path

    def _content(self, archive: zipfile.ZipFile, place: str) -> bytes:
        """An entry's bytes. Raises InputError where it would swell to more than a mask can be."""
        with archive.open(place) as entry:
            content = entry.read(MAX_ENTRY_BYTES + 1)
        if len(content) > MAX_ENTRY_BYTES:
            raise InputError(
                place,
                "an entry that is too large",
                f"at most {MAX_ENTRY_BYTES:,} bytes",
                "pack it again",
            )
        return content

    def _open_archive(self) -> None:
        try:
            self._archive = zipfile.ZipFile(self.root)
        except (*_DAMAGE, ValueError) as error:
            raise InputError(
                self.root,
                f"not readable as a zip ({error})",
                "a zip of PNG masks",
                "write it again",
            ) from error
        for entry in self._archive.namelist():
            parts = [part for part in composed(entry).split("/") if part not in ("", ".")]
            if any(map(is_foreign, parts)):
                continue
            self._entries["/".join(parts)] = entry
            for depth in range(len(parts)):
                self._children.setdefault("/".join(parts[:depth]), set()).add(parts[depth])

    def _names(self, folder: str) -> set[str]:
        if self._archive is not None:
            return self._children.get(composed(folder), set())
        place = self._path(folder)
        return set(map(composed, data_names(place))) if place.is_dir() else set()

    def _find_top(self, videos: Collection[str]) -> str:
        wanted = set(map(composed, videos))
        tops = list(TOPS)
        for name in sorted(self._names("")):
            # A tree packed with the folder that holds it.
            tops += [name, *(f"{name}/{top}" for top in TOPS if top)]
        for top in tops:
            if self._names(top) & wanted:
                if top not in TOPS:
                    self.problems.append(f"the videos lie in {top}, not at the top; read there")
                return top
        if wanted:
            there = sorted(self._names(""), key=natural_order)
            shown = ", ".join(there[:SHOWN_NAMES]) + (" …" if len(there) > SHOWN_NAMES else "")
            self.problems.append(
                f"{self.root}: none of the {len(wanted)} videos is there, such as {min(wanted)};"
                f" at the top is {shown or 'nothing'}"
            )
        return ""
