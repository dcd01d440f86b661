"""Finds what killed writers left in a run's folder, by the lock that they held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.planning.run_paths import OWN_NAMES, STUDENT_NAMES
from storage.files.atomic import name_of_partial, partials_in
from storage.run.lock import LOCK_FILES

_STUDENTS = "students"
"""Of `pseudolabels train`: each of them has a lock of its own."""


def partials_of_run(folder: Path) -> Iterator[Path]:
    """Yields the partial files that were written under the run's lock.

    These do not include students of `pseudolabels train`, nor exports into the run's folder.
    """
    for partial in partials_in(folder):
        # Partial files of the lock belong to processes that try to take it.
        if name_of_partial(partial) in OWN_NAMES - LOCK_FILES:
            yield partial
    for name in sorted(OWN_NAMES - {_STUDENTS}):
        yield from partials_in(folder / name, depth=2)


def partials_of_student(folder: Path) -> Iterator[Path]:
    """Yields the partial files that were written under the lock of a student's folder.

    These do not include masks that were predicted into the folder.
    """
    own = STUDENT_NAMES - LOCK_FILES
    return (item for item in partials_in(folder) if name_of_partial(item) in own)


def student_folders(folder: Path) -> list[Path]:
    """Returns the folders of students that have their own locks."""
    place = folder / _STUDENTS
    return sorted(item for item in place.iterdir() if item.is_dir()) if place.is_dir() else []
