"""Reads the rows of the table of a ``videos`` data set: ``expressions.csv``, ``.tsv`` or JSON.

A wrong value is kept with its row, so that it costs the row's video alone. A file without the
needed columns cannot be read at all.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from storage.files.text_files import read_text_file

FILES = ("expressions.csv", "expressions.tsv", "expressions.jsonl", "expressions.json")
NEEDED = ("video", "text")
OPTIONAL = ("expression_id", "start", "end", "frame", "box")

_LAYOUT = f"the columns {' and '.join(NEEDED)}, and if wanted {', '.join(OPTIONAL)}"

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Row:
    """One row: a sentence about a video, or a box of a sentence on one frame.

    Attributes:
        number: of the row in a table, its header being row 1; of the line or entry in JSON, from 1.
        video: path of a video, relative to the root.
        text: the sentence, as the file gives it.
        expression_id: None if the file gives none.
        start: where the part that the sentence is about begins; None for the video's beginning.
        end: where it ends, exclusive; None for the video's end.
        frame: index or name of the frame that the box is on; None without a box.
        box: x0, y0, x1, y1 in pixels, half-open; None without a box.
        problem: what is wrong with the row; None if nothing is.
    """

    number: int
    video: str
    text: object
    expression_id: str | None = None
    start: float | None = None
    end: float | None = None
    frame: str | None = None
    box: Box | None = None
    problem: InputError | None = None


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a file, in order; empty rows are left out.

    Raises:
        InputError: the file is missing or not readable, lacks a column, or has no rows; or a row
            names no video.
    """
    text = read_text_file(path, _LAYOUT, "restore the file")
    entries = _tables if path.suffix in (".csv", ".tsv") else _objects
    rows = [_row(path, number, values) for number, values in entries(path, text)]
    if not rows:
        raise InputError(path, "no rows", f"a row for each sentence, with {_LAYOUT}", "add rows")
    return rows


def row_problem(path: Path, number: int, found: str, expected: str, remedy: str) -> InputError:
    """Returns the error of one row."""
    return InputError(path, f"row {number}: {found}", expected, remedy)


def _tables(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(number, column -> value) of each row; what is past the columns is under ``""``."""
    try:
        rows = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix == ".tsv" else ",")
        names = [name.strip().lower() for name in next(rows, [])]
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise InputError(
                path,
                f"no column {' and no column '.join(missing)}; its first row is"
                f" {', '.join(names)[:120]!r}",
                f"{_LAYOUT}, named in the first row",
                "name the columns in the first row, separated by"
                f" {'tabs' if path.suffix == '.tsv' else 'commas'}",
            )
        for number, row in enumerate(rows, start=2):
            if any(value.strip() for value in row):
                surplus = [value for value in row[len(names) :] if value.strip()]
                values = dict(zip(names, row, strict=False))
                yield number, {**values, "": surplus} if surplus else {**values}
    except csv.Error as error:
        raise InputError(path, f"not readable ({error})", _LAYOUT, "restore the file") from error


def _objects(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(number, key -> value) of each object of a JSON list, or of lines of JSON."""
    is_lines = path.suffix == ".jsonl"
    pieces = [
        (number, line)
        for number, line in enumerate(text.splitlines() if is_lines else [text], start=1)
        if line.strip()
    ]
    expected = "a JSON object on each line" if is_lines else "a JSON list of objects"
    for number, piece in pieces:
        try:
            value = json.loads(piece)
        except (ValueError, RecursionError) as error:
            where = f"row {number}: " if is_lines else ""
            raise InputError(path, f"{where}no JSON ({error})", expected, "fix the file") from error
        entries = [value] if is_lines else value
        if not isinstance(entries, list):
            raise InputError(path, f"a {type(value).__name__}", expected, "fix the file")
        for place, entry in enumerate(entries, start=number):
            if not isinstance(entry, dict):
                found = f"row {place} is a {type(entry).__name__}"
                raise InputError(path, found, expected, "fix the row")
            missing = [name for name in NEEDED if name not in entry]
            if missing:
                found = f"row {place} has no {' and no '.join(missing)}"
                raise InputError(path, found, _LAYOUT.replace("columns", "keys"), "fix the row")
            yield place, entry


def _row(path: Path, number: int, values: Mapping[str, object]) -> Row:
    video = values["video"]
    if not isinstance(video, str) or not video.strip():
        raise row_problem(path, number, "no video", "the path of a video", "fill in the column")
    row = Row(number, video.strip(), values.get("text"))
    try:
        if "" in values:
            raise row_problem(
                path,
                number,
                f"more values than columns, such as {str(values[''])[:60]}",
                "as many values as columns",
                'put a sentence with commas into quotes: "the dog, on the left"',
            )
        start, end = (_seconds(path, number, name, values.get(name)) for name in ("start", "end"))
        if end is not None and end <= (start or 0):
            found = f"end {end:g} with start {start or 0:g}"
            raise row_problem(path, number, found, "an end after the start", "fix the row")
        frame, box = _word(values.get("frame")), _box(path, number, values.get("box"))
        if (frame is None) != (box is None):
            found = "a box without a frame" if frame is None else "a frame without a box"
            raise row_problem(path, number, found, "both, or neither", "fix the row")
        name = _word(values.get("expression_id"))
        return Row(number, row.video, row.text, name, start, end, frame, box)
    except InputError as error:
        return Row(number, row.video, row.text, problem=error)


def _word(value: object) -> str | None:
    """A value as text; None for an empty one."""
    return None if value is None else str(value).strip() or None


def _number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seconds(path: Path, number: int, name: str, value: object) -> float | None:
    if _word(value) is None:
        return None
    found = _number(value)
    if found is None or found < 0:
        raise row_problem(
            path, number, f"{name} is {str(value)[:40]!r}", "a number from 0 on", "fix the row"
        )
    return found


def _box(path: Path, number: int, value: object) -> Box | None:
    if _word(value) is None:
        return None
    parts = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
    numbers = [_number(part) for part in parts] if isinstance(parts, list) else []
    found = [part for part in numbers if part is not None]
    if len(numbers) == len(found) == 4 and found[0] < found[2] and found[1] < found[3]:
        return found[0], found[1], found[2], found[3]
    raise row_problem(
        path,
        number,
        f"box is {str(value)[:60]!r}",
        '"x0 y0 x1 y1" in pixels, with x0 < x1 and y0 < y1',
        "fix the row",
    )
