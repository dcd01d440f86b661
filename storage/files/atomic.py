"""Writes files and folders whole: nothing half-written ever has its final name.

A partial file or folder, ``.<name>.<token>.partial``, is written in the same folder and then
renamed. A killed process leaves partials behind; :func:`sweep` removes them under the lock of their
folder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from pipeline.errors import NoRoomError

PARTIAL_SUFFIX = ".partial"
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{12}\.partial", re.DOTALL)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space, a quota, or a limit on the size of a file."""
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def replace_file(path: Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Opens a file that replaces ``path`` if the block ends without an error.

    Text is UTF-8. Readers see either the old or the new content. After an error, the old content
    stays and the partial file is removed. Parent folders are created.

    Raises:
        NoRoomError: no space is left, or the folder may not be written to.
    """
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(path)
        try:
            encoding = "utf-8" if mode == "w" else None
            with partial.open(mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def put_in_place(partial: Path, path: Path) -> None:
    """Gives a whole file its final name, after its bytes are on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    _sync_folder(path.parent)


@contextmanager
def fresh_folder(path: Path, flush: bool = False) -> Iterator[Path]:
    """Creates an empty folder that replaces ``path`` if the block ends without an error.

    The old folder is removed afterwards. A crash between the two renames leaves no ``path``, so a
    receipt must be removed before its product is replaced.

    Args:
        flush: flush all files to disk before the rename, so that a power cut cannot leave them
            empty. Needed for products with receipts.

    Raises:
        NoRoomError: no space is left, or the folder may not be written to.
    """
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_beside(path)
        old = partial_beside(path)
        try:
            partial.mkdir()
            yield partial
            if flush:
                _flush(partial)
            # A link, whether or not it leads somewhere, is itself replaced.
            if os.path.lexists(path):
                path.rename(old)
            partial.rename(path)
            _sync_folder(path.parent)
        finally:
            _remove(partial)
            _remove(old)


def _flush(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(place))


def partial_beside(path: Path) -> Path:
    """Returns an unused name in the same folder that :func:`sweep` recognises."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}")


def sweep(folder: Path, depth: int = 3) -> int:
    """Removes what killed writers left below ``folder``. Returns the number of partials.

    Call it only while no other process writes there. A missing folder has none.

    Args:
        depth: levels to search. Products hold no partials, and have most of a run's files.
    """
    return remove_partials(partials_in(folder, depth))


def remove_partials(partials: Iterable[Path]) -> int:
    """Removes partials that no process writes any more. Returns their number."""
    leftovers = list(partials)
    for leftover in leftovers:
        _remove(leftover)
    return len(leftovers)


def remove_whole(path: Path) -> None:
    """Removes a file or a folder so that a killed process leaves it whole, or as a partial."""
    if os.path.lexists(path):
        partial = partial_beside(path)
        path.rename(partial)
        _remove(partial)


def _remove(path: Path) -> None:
    """Removes a folder with its content, a file or a link, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def name_of_partial(partial: Path) -> str | None:
    """Returns the final name of a partial; None for other files."""
    found = _PARTIAL.fullmatch(partial.name)
    return None if found is None else found[1]


def partials_of(path: Path) -> Iterator[Path]:
    """Returns the partials of one file or folder, which are beside it."""
    return (item for item in partials_in(path.parent, 1) if name_of_partial(item) == path.name)


def partials_in(folder: str | Path, depth: int = 1) -> Iterator[Path]:
    """Returns the partials in a folder; none if the folder is missing.

    Args:
        depth: levels to look at.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.name.endswith(PARTIAL_SUFFIX):
            yield Path(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from partials_in(entry.path, depth - 1)


@contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of a full or read-only disk into a NoRoomError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoRoomError(
                f"{path}: no space left ({error.strerror}); expected room for this file; free some"
                " and run the same command again, finished shards are kept"
            ) from error
        if error.errno in _FORBIDDEN:
            raise NoRoomError(
                f"{path}: {error.strerror}; expected a folder that can be written to; choose"
                " another output folder or fix its permissions"
            ) from error
        raise


def _sync_folder(folder: Path) -> None:
    # A rename lasts through a power cut only once its folder is on disk. Not every system lets a
    # folder be opened; there the rename alone must do.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
