"""Checks that a path is a regular file: no pipe, device, socket or folder."""

from __future__ import annotations

import stat
from pathlib import Path

from pipeline.errors import InputError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path, expected: str) -> int:
    """Returns the size of a regular file in bytes. Follows links.

    Opening a named pipe would wait for a writer, and a device may never end.

    Args:
        path: the file.
        expected: what it should be, for the message.

    Raises:
        InputError: something else is there.
        OSError: nothing is there, or it may not be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "no file")
        raise InputError(
            path, kind, f"{expected}, in a regular file", "put the file in its place, or remove it"
        )
    return found.st_size
