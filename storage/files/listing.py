"""Lists folders of data sets, and finds names that are spelled in another Unicode form."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pipeline.file_names import folded, is_foreign, natural_order


def data_names(folder: Path) -> list[str]:
    """Returns the names in a folder in natural order, without hidden and foreign files.

    Raises:
        OSError: as ``os.scandir`` does.
    """
    names = (entry.name for entry in os.scandir(folder))
    return sorted((name for name in names if not is_foreign(name)), key=natural_order)


def spelled(folder: Path, name: str) -> Path:
    """Returns the path of a file or folder with a name, or with the same name spelled otherwise.

    Returns:
        ``folder / name`` where it is there, or where nothing with an equal :func:`folded` name is.
    """
    path = folder / name
    if os.path.lexists(path):
        return path
    try:
        changed = folder.stat().st_mtime_ns
        return folder / _spellings(folder, changed).get(folded(name), name)
    except OSError:
        return path


@lru_cache(maxsize=64)
def _spellings(folder: Path, changed: int) -> dict[str, str]:
    """Folded name -> name; of two that fold to the same the first."""
    found: dict[str, str] = {}
    for name in data_names(folder):
        found.setdefault(folded(name), name)
    return found
