"""Reads CSV files of data sets."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.errors import InputError
from storage.files.text_files import read_text_file

# The text is in memory anyway, and a cell may hold the masks of a whole video.
csv.field_size_limit(1 << 30)


def read_csv_rows(path: Path, expected: str) -> list[list[str]]:
    """The rows of a CSV file that are not empty, its header among them if it has one.

    Args:
        path: the file, with or without a byte order mark.
        expected: what it should hold, for the message.

    Raises:
        InputError: the file is missing, no regular file, not readable, or no CSV.
        OSError: it cannot be read for a reason that may pass.
    """
    text = read_text_file(path, expected, "check --root")
    try:
        return [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise InputError(path, f"not readable ({error})", expected, "restore the file") from error
