"""Keeps the figures of students that were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from storage.files.atomic import replace_file


class Results:
    """The figures of students, in a file that several processes may add to.

    Args:
        path: of the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, key: str) -> dict[str, float] | None:
        """Returns the figures of a student; None if it was not measured."""
        if not self._path.exists():
            return None
        values: dict[str, Any] = json.loads(self._path.read_text())
        found: dict[str, float] | None = values.get(key, {}).get("figures")
        return found

    def add(self, key: str, label: str, figures: Mapping[str, float]) -> None:
        """Adds the figures of a student. The label is for people who read the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            values = json.loads(self._path.read_text()) if self._path.exists() else {}
            values[key] = {"student": label, "figures": dict(figures)}
            with replace_file(self._path, "w") as file:
                json.dump(values, file, indent=2)
