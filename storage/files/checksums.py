"""Sizes and digests of the files of a product, so that a flipped bit is noticed.

The digest of a file is BLAKE2b of 16 bytes, 32 hexadecimal digits. A mark is a file's size in
bytes and its digest with a space between, as receipts hold it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_DIGEST_BYTES = 16


def bytes_digest(content: bytes) -> str:
    """The digest of some bytes."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def mark_file(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """A file's mark; read a mebibyte at a time. Raises OSError as ``open`` does.

    Args:
        progress: told of every chunk's bytes.
    """
    sha, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
            size += len(chunk)
            progress(len(chunk))
    return f"{size} {sha.hexdigest()}"


def mark_files(folder: Path, places: Iterable[Path]) -> dict[str, str]:
    """The marks of files, and of all files in folders, by path relative to ``folder``.

    Places that do not exist have none.
    """
    files = (file for place in places for file in walk_files(place))
    return {file.relative_to(folder).as_posix(): mark_file(file) for file in files}


def walk_files(place: Path) -> Iterator[Path]:
    """A file itself, or all files below a folder, in order; symbolic links are not followed."""
    if place.is_dir() and not place.is_symlink():
        for folder, folders, names in os.walk(place):
            folders.sort()
            yield from (Path(folder, name) for name in sorted(names))
    elif place.is_symlink() or place.exists():
        yield place


def walk_all(place: Path) -> Iterator[Path]:
    """A file or folder itself and, of a folder, every file, folder and link below it, in order;
    symbolic links are not followed."""
    if place.is_symlink() or place.exists():
        yield place
    if place.is_dir() and not place.is_symlink():
        for folder, folders, names in os.walk(place):
            folders.sort()
            yield from (Path(folder, name) for name in sorted((*folders, *names)))


def product_digest(files: Mapping[str, str]) -> str:
    """One digest of the names and marks of a product's files; empty where there are none."""
    if not files:
        return ""
    return bytes_digest("\n".join(f"{name} {files[name]}" for name in sorted(files)).encode())
