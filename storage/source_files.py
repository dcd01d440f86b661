"""Computes signatures and digests of the files that a video is read from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.file_names import is_foreign
from storage.files.checksums import bytes_digest, mark_file

MISSING = "missing"


def signature(names: Sequence[str], places: Sequence[Path]) -> str:
    """Returns a digest of names, sizes and modification times. Opens no file.

    Args:
        names: frame names that an index lists.
        places: files, and folders of files. A missing one counts as missing.
    """
    lines = [*names, ""]
    for place in places:
        lines += _look(place)
        lines.append("")
    return bytes_digest("\n".join(lines).encode("utf-8", "surrogateescape"))


def content(names: Sequence[str], places: Sequence[Path]) -> str:
    """Returns a digest of names and of the bytes of files. Does not depend on the folder's path.

    Args:
        names: frame names that an index lists. Of a folder, only files with these names count; if
            there are none, all files count.
        places: files, and folders of files.
    """
    wanted = set(names)
    lines = [*names, ""]
    for place in places:
        is_folder = place.is_dir()
        lines += [
            f"{path.name}|{_mark(path)}"
            for path in _files(place)
            if not is_folder or not wanted or path.stem in wanted
        ]
        lines.append("")
    return bytes_digest("\n".join(lines).encode("utf-8", "surrogateescape"))


def _look(place: Path) -> list[str]:
    """Name, size and time of change of a file, or of what is in a folder, by name.

    A data set has a hundred thousand frames, and every plan looks at all of them: nothing but one
    call of the system is done for each, and that call need not resolve the folder's path again.
    """
    try:
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        return [_line(place.name, place.stat())]
    except OSError:
        return [MISSING]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        return sorted([_line(name, os.stat(name, dir_fd=folder)) for name in names])
    except OSError:
        return [MISSING]
    finally:
        os.close(folder)


def _line(name: str, status: os.stat_result) -> str:
    return f"{name}|{status.st_size}|{status.st_mtime_ns}"


def _files(place: Path) -> Iterator[Path]:
    """A file, or the files in a folder, by name; hidden and foreign ones are left out."""
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except NotADirectoryError:
        yield place
        return
    except OSError:
        yield place / MISSING
        return
    for name in sorted(names):
        if not is_foreign(name):
            yield place / name


def _mark(path: Path) -> str:
    try:
        return mark_file(path)
    except OSError:
        # The stage that reads it will report why it cannot be read.
        return MISSING
