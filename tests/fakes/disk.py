"""A disk that notes the order in which files are flushed and renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Disk:
    """Notes every fsync and rename of the process, in order.

    Attributes:
        steps: ("fsync", folder), ("fsync N bytes", file) or ("rename", what is renamed).
        renamed: what was renamed -> its new path.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, Path]] = []
        self.renamed: dict[Path, Path] = {}
        self._sync, self._rename, self._replace = os.fsync, os.rename, os.replace
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "rename", lambda old, new: self._moved(self._rename, old, new))
        monkeypatch.setattr(os, "replace", lambda old, new: self._moved(self._replace, old, new))

    def flushed_before(self, product: Path) -> set[str]:
        """The files below a product, by their path in it, that were on the disk, with all of their
        bytes, when it got its name; and its folders."""
        (old,) = [old for old, new in self.renamed.items() if new == product]
        end = self.steps.index(("rename", old))
        sizes = {path: step for step, path in self.steps[:end] if step.startswith("fsync")}
        found = set()
        for path, step in sizes.items():
            if path == old or old in path.parents:
                place = product / path.relative_to(old)
                whole = step == "fsync" or step == f"fsync {place.stat().st_size} bytes"
                if whole:
                    found.add(str(path.relative_to(old)))
        return found

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        size = os.fstat(descriptor).st_size
        self.steps.append(("fsync" if path.is_dir() else f"fsync {size} bytes", path))
        self._sync(descriptor)

    def _moved(
        self, move: Callable[[str | Path, str | Path], None], old: str | Path, new: str | Path
    ) -> None:
        self.steps.append(("rename", Path(old)))
        self.renamed[Path(old)] = Path(new)
        move(old, new)
