"""Reads pickles of data sets that hold plain Python values, and nothing that runs code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

from pipeline.errors import InputError
from storage.files.faults import is_files_fault
from storage.files.regular import check_regular
from storage.files.text_files import MAX_TEXT_BYTES


class _Plain(pickle._Unpickler):
    """Takes dicts, lists, tuples, texts, numbers, truth values and None.

    It is the one written in Python: that in C takes as much memory as a few bytes ask it for.
    """

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no plain value")


def read_plain_pickle(path: Path, expected: str, remedy: str) -> Any:
    """Returns the value in a pickle, of Python 2 or 3.

    Args:
        path: the file.
        expected: what it should hold, for the message.
        remedy: what the user can do, for the message.

    Raises:
        InputError: the file is missing, no regular file, too large, no pickle, or holds anything
            but plain values: objects, functions, sets.
        OSError: it cannot be read for a reason that may pass.
    """
    try:
        if (size := check_regular(path, expected)) > MAX_TEXT_BYTES:
            raise InputError(path, f"{size:,} bytes", expected, remedy)
        with path.open("rb") as file:
            return _Plain(file, encoding="utf-8").load()
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(path, "no such file", expected, remedy, missing=True) from error
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, remedy) from error
    except Exception as error:
        # A damaged pickle raises whatever its bytes happen to ask for.
        raise InputError(path, f"not a plain pickle ({error})", expected, remedy) from error
