"""What killed writers left in a run's folder, by the lock that those writers held."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.planning.run_paths import OWN_NAMES
from storage.files.atomic import name_of_partial, partials_in

_STUDENTS = "students"
"""Of `pseudolabels train`: each of them has a lock of its own."""


def partials_of_run(folder: Path) -> Iterator[Path]:
    """The partials of what is written under the run's lock.

    Students that `pseudolabels train` trains, and exports into the run's folder, are not.
    """
    for partial in partials_in(folder):
        name = name_of_partial(partial)
        if name is not None and name in OWN_NAMES:
            yield partial
    for name in sorted(OWN_NAMES - {_STUDENTS}):
        yield from partials_in(folder / name, depth=2)


def student_folders(folder: Path) -> list[Path]:
    """The folders of a run's students that have locks of their own."""
    place = folder / _STUDENTS
    return sorted(item for item in place.iterdir() if item.is_dir()) if place.is_dir() else []
