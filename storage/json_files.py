"""JSON files that others wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError


def read_json_object(path: Path, expected: str) -> dict[str, Any]:
    """The object a JSON file holds.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        expected: what it should hold, for the message.

    Raises:
        InputError: the file is missing, not readable, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(
            path, "no such file", expected, "check the data set's root folder and split"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"not readable ({error})", expected, "mend the file") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(
            path, f"malformed JSON ({error})", expected, "download or write the file again"
        ) from error
    return object_at(value, path, "the file", expected)


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
