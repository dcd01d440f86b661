"""Checks where an export may write, and keeps other writers away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.planning.run_paths import OWN_NAMES, STUDENT_NAMES
from pipeline.errors import ConfigError
from storage.exports.marked_folder import is_export
from storage.files.atomic import explain_disk_errors, partials_in, partials_of, remove_partials
from storage.run.held_file import HeldFile


def check_destination(path: Path, as_folder: bool, overwrite: bool) -> Path:
    """Returns the absolute path, if an export may write there.

    Args:
        path: a file, or a folder.
        as_folder: whether the export writes a folder.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: the path exists and may not be replaced, or cannot be written to.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - links stay: they are refused below
    if _holds_working_folder(place):
        raise ConfigError(f"{path}: the working folder lies in it; give the path of a new place")
    check_no_part_of_run(place, path)
    if place.is_symlink():
        raise ConfigError(f"{path}: a link; expected a free path; give another")
    empty = place.is_dir() and not any(place.iterdir())
    if not place.exists() or (empty and as_folder):
        return place
    if place.is_dir() != as_folder or not (place.is_dir() or place.is_file()):
        found = "a folder" if place.is_dir() else "a file" if place.is_file() else "no plain file"
        expected = "a folder" if as_folder else "a file"
        raise ConfigError(f"{path}: {found} is there; this format is {expected}; give another path")
    if not overwrite:
        raise ConfigError(
            f"{path}: something is there already; expected a free path; give another, or"
            " --overwrite to replace it"
        )
    if as_folder and not is_export(place):
        raise ConfigError(
            f"{path}: this folder is no earlier export; --overwrite replaces nothing else; give"
            " another path, or remove the folder"
        )
    return place


def check_no_part_of_run(place: Path, named: Path) -> None:
    """Raises ConfigError if a path is a run or part of one. New files in the folder of a student
    that `pseudolabels train` made are allowed, for its predictions.

    Args:
        place: absolute.
        named: as the user gave it.
    """
    for folder in (place, *place.parents):
        if not (folder / "ledger").is_dir():
            continue
        inside = place.relative_to(folder).parts
        if inside[:1] == ("students",) and len(inside) > 2 and inside[2] not in STUDENT_NAMES:
            return
        if not inside or inside[0] in OWN_NAMES:
            raise ConfigError(
                f"{named}: {'a run' if not inside else f'a part of the run {folder}'}; expected a"
                " place of its own for what is written; give another path"
            )


@contextmanager
def claimed(place: Path) -> Iterator[None]:
    """Keeps other writers away from a path during the block. First removes the partial files of
    killed writers.

    Raises:
        RunLockedError: another process writes there.
        NoRoomError: the folder may not be written to.
    """
    with explain_disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        claim = HeldFile(place.with_name(f".{place.name}.held"))
        claim.acquire()
    try:
        remove_partials((*partials_of(place), *partials_in(place, depth=2)))
        yield
    finally:
        claim.release()


def _holds_working_folder(place: Path) -> bool:
    try:
        return Path.cwd().is_relative_to(place)
    except FileNotFoundError:
        return False  # The working folder was removed.
