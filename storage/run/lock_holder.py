"""Who holds the lock of a run, without taking it or writing anything."""

from __future__ import annotations

import json
from pathlib import Path


def lock_holder(run_folder: Path) -> str | None:
    """The process that writes to a run, in words; None where there is none.

    On a system without ``flock`` nothing is known, and None is returned.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        with (run_folder / ".lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _owner(run_folder / ".lock.owner")
    except OSError:
        return None
    return None


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['machine']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that is not known"
