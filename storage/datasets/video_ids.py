"""Makes ids of videos from their paths: names that a store takes, no two alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from storage.files.checksums import bytes_digest

_LONGEST_ID = 120
"""Bytes of an id before its part is added; names in a store may have 200."""


def video_ids(names: Mapping[Path, str]) -> dict[Path, str]:
    """Returns path -> id, given their names relative to the root, without suffix.

    Names that would give one id get a digest of their path, and so do long ones.
    """
    plain = {path: _plain(name) for path, name in names.items()}
    count = Counter(name.casefold() for name in plain.values())
    return {
        path: name
        if count[name.casefold()] == 1 and len(name.encode()) <= _LONGEST_ID
        else f"{_cut(name)}~{bytes_digest(path.name.encode() + names[path].encode())[-8:]}"
        for path, name in plain.items()
    }


def _plain(name: str) -> str:
    """A relative path as a name that a store takes."""
    joined = re.sub(r"[\x00-\x1f\x7f:\\]", "_", name.strip().replace("/", "--"))
    return re.sub(r"^\.", "_", joined)


def _cut(name: str) -> str:
    return name.encode()[:_LONGEST_ID].decode("utf-8", "ignore").rstrip()


def part_id(start: float | None, end: float | None) -> str:
    """What the id of a part of a video ends in; empty for the whole video."""
    if start is None and end is None:
        return ""
    return f"@{start or 0:.10g}-{'end' if end is None else f'{end:.10g}'}"
