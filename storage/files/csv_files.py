"""CSV files that others wrote."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.errors import InputError
from storage.files.images import is_files_fault


def read_csv_rows(path: Path, expected: str) -> list[list[str]]:
    """The rows of a CSV file that are not empty, its header among them if it has one.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        expected: what it should hold, for the message.

    Raises:
        InputError: the file is missing or not readable.
        OSError: it cannot be read for a reason that may pass.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except FileNotFoundError as error:
        raise InputError(path, "no such file", expected, "check --root", missing=True) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        if not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, "restore the file") from error
