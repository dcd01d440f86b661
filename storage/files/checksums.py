"""Computes sizes and digests of the files of a product, so that a changed bit is noticed.

The digest of a file is BLAKE2b of 16 bytes, 32 hexadecimal digits. The mark of a file is its size
in bytes, a space, and its digest, as in receipts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_DIGEST_BYTES = 16


def bytes_digest(content: bytes) -> str:
    """Returns the digest of some bytes."""
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def mark_file(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Returns the mark of a file. Raises OSError as ``open`` does.

    Args:
        progress: called with the number of bytes of every chunk.
    """
    with path.open("rb") as file:
        return mark_of(iter(lambda: file.read(_CHUNK_BYTES), b""), progress)


def mark_of(chunks: Iterable[bytes], progress: Callable[[int], None] = lambda _: None) -> str:
    """Returns the mark of a file, given its content in pieces. ``progress`` as of
    :func:`mark_file`."""
    sha, size = hashlib.blake2b(digest_size=_DIGEST_BYTES), 0
    for chunk in chunks:
        sha.update(chunk)
        size += len(chunk)
        progress(len(chunk))
    return f"{size} {sha.hexdigest()}"


def mark_files(folder: Path, places: Iterable[Path]) -> dict[str, str]:
    """Returns path relative to ``folder`` -> mark, for files and for all files in folders.

    Places that do not exist are left out.
    """
    files = (file for place in places for file in walk_files(place))
    return {file.relative_to(folder).as_posix(): mark_file(file) for file in files}


def walk_files(place: Path) -> Iterator[Path]:
    """Yields a file, or all files below a folder, in order. Does not follow symbolic links."""
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
    """Returns one digest of the names and marks of a product's files; empty if there are none."""
    if not files:
        return ""
    return bytes_digest("\n".join(f"{name} {files[name]}" for name in sorted(files)).encode())
