"""Reads text files of data sets. Raises InputError if one is broken."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import InputError
from pipeline.text import read_text
from storage.files.faults import is_files_fault
from storage.files.regular import check_regular

MAX_TEXT_BYTES = 1 << 30
"""The largest index of a data set has some tens of megabytes."""


def read_text_file(
    path: Path,
    expected: str,
    remedy: str,
    *,
    encoding: str = "utf-8",
    most_bytes: int = MAX_TEXT_BYTES,
) -> str:
    """Returns the text of a file, with or without a byte order mark.

    Args:
        path: the file.
        expected: what it should hold, for the message.
        remedy: what the user can do, for the message.
        encoding: of a file without a mark.
        most_bytes: that the file may have.

    Raises:
        InputError: the file is missing, no regular file, too large, not readable, or not text.
        OSError: it cannot be read for a reason that may pass.
    """
    try:
        size = check_regular(path, expected)
        if size > most_bytes:
            raise InputError(
                path,
                f"{size:,} bytes",
                f"{expected}, in at most {most_bytes:,} bytes",
                "check that it is the right file",
            )
        return read_text(path, encoding)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(path, "no such file", expected, remedy, missing=True) from error
    except (OSError, UnicodeDecodeError) as error:
        if not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, remedy) from error
