"""Reads files and folders of a data set, which may be missing, of the wrong kind, or forbidden."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError
from storage.files.faults import is_files_fault
from storage.files.listing import data_names
from storage.files.text_files import read_text_file

REMEDY = "restore the folder or fix its rights"


@contextmanager
def listing(folder: Path, expected: str, remedy: str = REMEDY) -> Iterator[None]:
    """Errors that are the folder's fault become InputErrors; others stay as they are."""
    try:
        yield
    except OSError as error:
        if not is_files_fault(error):
            raise
        missing = isinstance(error, FileNotFoundError)
        if missing:
            found = "no such folder"
        elif isinstance(error, NotADirectoryError):
            found = "not a folder"
        else:
            found = f"not readable ({error.strerror})"
        raise InputError(folder, found, expected, remedy, missing=missing) from error


def names_in(folder: Path, expected: str, remedy: str = REMEDY) -> list[str]:
    """The names in a folder, in natural order; hidden and foreign ones are left out.

    ``Path.glob`` takes a folder that may not be read for an empty one.

    Args:
        folder: of a data set.
        expected: what it should hold, for the message.
        remedy: what the user can do, for the message.

    Raises:
        InputError: the folder is missing, is a file, or may not be read.
        OSError: it cannot be listed for a reason that may pass.
    """
    with listing(folder, expected, remedy):
        return data_names(folder)


def status(path: Path, expected: str) -> os.stat_result | None:
    """What the system says of a file or folder, links followed; None where there is none.

    ``Path.is_file`` and ``Path.is_dir`` raise PermissionError for what lies in a closed folder, and
    from Python 3.14 on take it for missing.

    Raises:
        InputError: its folder is a file or may not be entered, or links go round in a circle.
        OSError: the file system does not answer.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if not is_files_fault(error):
            raise
        raise InputError(
            path, f"not readable ({error.strerror})", expected, "fix its folder or its rights"
        ) from error


def is_folder(path: Path, expected: str) -> bool:
    """Whether a folder is there. Raises as :func:`status`."""
    found = status(path, expected)
    return found is not None and stat.S_ISDIR(found.st_mode)


def read_ids(path: Path) -> frozenset[str] | None:
    """The ids in a text file, between white space; None where there is no such file.

    Raises:
        InputError: the file is not readable or not UTF-8.
        OSError: it cannot be read for a reason that may pass.
    """
    expected = "ids in UTF-8, or no such file"
    if status(path, expected) is None:
        return None
    return frozenset(read_text_file(path, expected, "fix the file").split())
