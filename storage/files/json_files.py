"""JSON files that others wrote."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from storage.files.images import is_files_fault

MAX_JSON_BYTES = 1 << 30
"""The largest index of a data set has some tens of megabytes."""


def read_json_object(path: Path, expected: str, most_bytes: int | None = None) -> dict[str, Any]:
    """The object a JSON file holds.

    Numbers that are none (NaN, Infinity) and keys that occur twice are refused: each reader of
    JSON makes something else of them.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        expected: what it should hold, for the message.
        most_bytes: that it may have; None for MAX_JSON_BYTES.

    Raises:
        InputError: the file is missing, not readable, too large, not JSON, or not an object.
        OSError: it cannot be read for a reason that may pass.
    """
    most = MAX_JSON_BYTES if most_bytes is None else most_bytes
    try:
        size = path.stat().st_size
        if size > most:
            raise InputError(
                path,
                f"{size:,} bytes",
                f"{expected}, in at most {most:,} bytes",
                "check that it is the right file",
            )
        value = json.loads(
            path.read_text(encoding="utf-8-sig"),
            object_pairs_hook=_without_repetition,
            parse_constant=_no_number,
        )
    except FileNotFoundError as error:
        remedy = "check the data set's root folder and split"
        raise InputError(path, "no such file", expected, remedy, missing=True) from error
    except InputError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        if not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, "mend the file") from error
    except (ValueError, RecursionError) as error:
        # Not only JSONDecodeError: a number of many thousand digits is a plain ValueError.
        raise InputError(
            path, f"malformed JSON ({error})", expected, "download or write the file again"
        ) from error
    return object_at(value, path, "the file", expected)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {twice[:80]!r} occurs twice in one object")
    return values


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def object_at(value: object, path: Path, what: str, expected: str) -> dict[str, Any]:
    """The value, if it is a JSON object. Raises InputError naming ``what`` of the file if not."""
    if isinstance(value, dict):
        return value
    raise InputError(
        path, f"{what} is {_kind(value)}, not an object", expected, "mend or remove this entry"
    )


def list_at(value: object, path: Path, what: str, expected: str) -> list[Any]:
    """The value, if it is a JSON list. Raises InputError naming ``what`` of the file if not."""
    if isinstance(value, list):
        return value
    raise InputError(
        path, f"{what} is {_kind(value)}, not a list", expected, "mend or remove this entry"
    )


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return {dict: "an object", list: "a list", str: "text", bool: "a truth value"}.get(
        type(value), "a number"
    )
