"""Digests that say whether a product still belongs to what it was made from.

A fingerprint is the SHA-256 of a canonical JSON text: equal values give equal text whatever the
order of their keys, the process, or the machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from pathlib import PurePath
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

_CHUNK_BYTES = 1 << 20

_PLAIN = frozenset({str, int, bool, type(None)})


def canonical_json(value: object) -> str:
    """One JSON text a value: keys sorted, no spaces, ASCII, floats as Python's shortest form.

    Mappings need string keys; sets are sorted; tuples read as lists; pydantic models, dataclasses,
    enums, paths (with forward slashes) and numpy scalars as the plain values they stand for.

    Raises:
        TypeError: a value or a key that has no canonical form.
        ValueError: a float that is not finite.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of :func:`canonical_json`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def file_digest(path: PurePath | str) -> str:
    """SHA-256 of a file's bytes, read a mebibyte at a time. Raises OSError as ``open`` does."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:  # noqa: PTH123 - takes pure paths and strings alike
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def _plain(value: object) -> Any:
    # Most values are of these types; a plan makes the text of hundreds of thousands of them.
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return _finite(cast(float, value))
    if kind is list or kind is tuple:
        items = cast(Iterable[object], value)
        return [item if type(item) in _PLAIN else _plain(item) for item in items]
    if kind is dict:
        return _plain_mapping(cast(Mapping[Any, object], value))
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, int | str):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="python"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, Set):
        return sorted((_plain(item) for item in value), key=canonical_json)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form: {value!r}")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} has no canonical form; expected a finite number")
    return value


def _plain_mapping(value: Mapping[Any, object]) -> dict[str, Any]:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"key {key!r} is a {type(key).__name__}; expected str")
    return {key: item if type(item) in _PLAIN else _plain(item) for key, item in value.items()}
