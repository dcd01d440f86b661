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
        lines += [f"{entry.name}|{size}|{time}" for entry, size, time in _looked_at(place)]
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
        for entry, _, _ in _looked_at(place):
            if not is_folder or not wanted or Path(entry.name).stem in wanted:
                lines.append(f"{entry.name}|{_mark(entry)}")
        lines.append("")
    return bytes_digest("\n".join(lines).encode("utf-8", "surrogateescape"))


def _looked_at(place: Path) -> Iterator[tuple[Path, int, int]]:
    """Yields (path, size, modification time) of a file, or of the files in a folder, by name."""
    found: list[tuple[str, int, int]] = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if not is_foreign(entry.name) and entry.is_file():
                    status = entry.stat()
                    found.append((entry.name, status.st_size, status.st_mtime_ns))
    except NotADirectoryError:
        status = place.stat()
        yield place, status.st_size, status.st_mtime_ns
        return
    except OSError:
        yield place / MISSING, -1, 0
        return
    for name, size, time in sorted(found):
        yield place / name, size, time


def _mark(path: Path) -> str:
    try:
        return mark_file(path)
    except OSError:
        # The stage that reads it will report why it cannot be read.
        return MISSING
