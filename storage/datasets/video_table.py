"""Finds the table of a ``videos`` data set, and the clips that its rows are about."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError
from pipeline.file_names import composed
from storage.datasets.expression_rows import FILES, Row, read_rows, row_problem
from storage.datasets.files import is_folder, names_in, status
from storage.datasets.video_clip import SUFFIXES
from storage.datasets.video_ids import part_id, video_ids
from storage.files.listing import spelled


@dataclass
class VideoClip:
    """One part of one video, and the rows about it."""

    path: Path
    start: float | None
    end: float | None
    rows: list[Row] = field(default_factory=list)

    @property
    def is_file(self) -> bool:
        return self.path.suffix.lower() in SUFFIXES


def find_table(root: Path) -> Path:
    """Returns the table of a data set. Raises InputError if there is none, or if there are two."""
    there = [path for name in FILES if status(path := root / name, "a table") is not None]
    if len(there) == 1:
        return there[0]
    found = f"no {FILES[0]}" if not there else f"{there[0].name} and {there[1].name}"
    raise InputError(
        root,
        found,
        f"the videos and one of {', '.join(FILES)}",
        "write one with the columns video and text" if not there else "remove one of them",
        missing=not there,
    )


def clips_of(root: Path, table: Path) -> dict[str, VideoClip]:
    """Returns id -> clip of all rows.

    Raises:
        InputError: the table cannot be read.
    """
    rows = read_rows(table)
    paths: dict[str, Path] = {}
    checked: list[Row] = []
    for row in rows:
        try:
            paths[row.video] = paths.get(row.video) or _path(root, table, row)
        except InputError as error:
            paths[row.video] = root / (PurePosixPath(row.video).name or "unnamed")
            row = replace(row, problem=error)
        checked.append(row)
    ids = video_ids({path: _relative(root, path) for path in paths.values()})
    clips: dict[str, VideoClip] = {}
    for row in checked:
        path = paths[row.video]
        name = ids[path] + part_id(row.start, row.end)
        clips.setdefault(name, VideoClip(path, row.start, row.end)).rows.append(row)
    return clips


def _path(root: Path, table: Path, row: Row) -> Path:
    """The file or folder that a row names; of one that is not there, where it should be."""
    name = PurePosixPath(row.video.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not name.name:
        raise row_problem(
            table,
            row.number,
            f"the video {row.video!r}",
            "a path within the folder of the table",
            "put the video, or a link to it, into that folder and give its path from there",
        )
    path = spelled(root / name.parent, name.name)
    expected = "a video"
    if status(path, expected) is not None or not is_folder(path.parent, expected):
        return path
    wanted = composed(name.name)
    found = [
        other
        for other in names_in(path.parent, expected)
        if Path(other).suffix.lower() in SUFFIXES and composed(Path(other).stem) == wanted
    ]
    if len(found) > 1:
        raise row_problem(
            table,
            row.number,
            f"the video {row.video!r} can be {' or '.join(found)}",
            "the name of one file",
            "give its suffix",
        )
    return path.parent / found[0] if found else path


def _relative(root: Path, path: Path) -> str:
    name = composed(path.relative_to(root).as_posix())
    return name[: -len(path.suffix)] if path.suffix.lower() in SUFFIXES else name
