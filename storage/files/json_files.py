"""Reads JSON files of data sets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from storage.files.text_files import MAX_TEXT_BYTES, read_text_file


def read_json_object(path: Path, expected: str, most_bytes: int | None = None) -> dict[str, Any]:
    """The object a JSON file holds. Arguments and errors as of :func:`read_json`; InputError too
    where it holds something else.
    """
    return object_at(read_json(path, expected, most_bytes=most_bytes), path, "the file", expected)


def read_json(
    path: Path, expected: str, *, most_bytes: int | None = None, any_number: bool = False
) -> Any:
    """Returns the content of a JSON file.

    Keys that occur twice are refused, and so are numbers that are none (NaN, Infinity): each reader
    of JSON makes something else of them.

    Args:
        path: the file, with or without a byte order mark.
        expected: what it should hold, for the message.
        most_bytes: that it may have; None for MAX_TEXT_BYTES.
        any_number: take NaN and Infinity, for a caller that checks numbers one by one.

    Raises:
        InputError: the file is missing, no regular file, not readable, too large, or not JSON.
        OSError: it cannot be read for a reason that may pass.
    """
    most = MAX_TEXT_BYTES if most_bytes is None else most_bytes
    remedy = "check the path, and the data set's root folder and split"
    text = read_text_file(path, expected, remedy, most_bytes=most)
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=float if any_number else _no_number,
        )
    except (ValueError, RecursionError) as error:
        # Not only JSONDecodeError: a number of many thousand digits is a plain ValueError.
        raise InputError(
            path, f"malformed JSON ({error})", expected, "download or write the file again"
        ) from error


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
        path, f"{what} is {_kind(value)}, not an object", expected, "fix or remove this entry"
    )


def list_at(value: object, path: Path, what: str, expected: str) -> list[Any]:
    """The value, if it is a JSON list. Raises InputError naming ``what`` of the file if not."""
    if isinstance(value, list):
        return value
    raise InputError(
        path, f"{what} is {_kind(value)}, not a list", expected, "fix or remove this entry"
    )


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    return {dict: "an object", list: "a list", str: "text", bool: "a truth value"}.get(
        type(value), "a number"
    )
