"""Reads and writes JSON files whose last key, ``checksum``, covers all text before it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.files.atomic import replace_file
from storage.files.checksums import bytes_digest

_KEY = "checksum"


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object with its checksum.

    Args:
        values: at least one key, none of them ``checksum``.

    Raises:
        StoreError: no space is left, or the folder may not be written to.
    """
    text = sealed_text(values)
    with replace_file(path, "w") as file:
        file.write(text)


def sealed_text(values: Mapping[str, Any]) -> str:
    """Returns what :func:`write_sealed` writes."""
    if not values or _KEY in values:
        raise ValueError(f"expected values, and no key {_KEY!r}; found {sorted(values)}")
    body = json.dumps(values, indent=1, sort_keys=True, allow_nan=False).removesuffix("\n}")
    return body + _tail(body.encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Returns the object in a file, without its checksum.

    Raises:
        OSError: as ``open`` does.
        ValueError: it is not a JSON object, or its checksum is missing or does not match.
    """
    content = path.read_bytes()
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(values, dict):
        raise ValueError(f"a JSON {type(values).__name__}, not an object")
    if values.pop(_KEY, None) is None:
        raise ValueError("its checksum is gone")
    body, _, _ = content.rpartition(f',\n "{_KEY}"'.encode())
    if content != body + _tail(body).encode():
        raise ValueError("its checksum does not fit its text")
    return values


def _tail(body: bytes) -> str:
    return f',\n "{_KEY}": "{bytes_digest(body)}"\n}}\n'
