"""Remembers the folders of runs that the Prefect UI knows, so that their reports can be found.

Each run has a file ``<PREFECT_HOME>/pseudolabels-runs/<key>``, which holds the path of its folder.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from flows.orchestration.servers.background import prefect_home
from flows.planning.run_paths import RunPaths
from storage.files.atomic import replace_file

_KEY = re.compile(r"[a-z0-9-]{1,80}")


def key_of(folder: Path) -> str:
    """Returns a short name of a run's folder, which no other folder has: lower-case letters, digits
    and dashes, as Prefect wants them.
    """
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:60]
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()
    return f"{name}-{digest[:8]}".strip("-")


def remember(folder: Path) -> None:
    """Notes the folder of a run."""
    place = _notes() / key_of(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(place, "w") as file:
        file.write(str(folder.absolute()))


def folder_of(key: str) -> Path | None:
    """Returns the folder of a key; None if no run has that key."""
    if not _KEY.fullmatch(key):
        return None
    try:
        folder = Path((_notes() / key).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return folder if key_of(folder) == key else None


def known_runs() -> Iterator[Path]:
    """Yields the folders that are still runs, sorted."""
    try:
        keys = sorted(place.name for place in _notes().iterdir())
    except OSError:
        return
    for key in keys:
        folder = folder_of(key)
        if folder is not None and RunPaths(folder).config.is_file():
            yield folder


def _notes() -> Path:
    return prefect_home() / "pseudolabels-runs"
