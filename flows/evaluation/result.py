"""How an evaluation is shown: a table or JSON, and CSV files by sequence and expression."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.console import add_row, grid, say, write
from storage.files.atomic import replace_file

Row = Mapping[str, Any]

NOTHING = -1.0
MAX_COLUMNS = 4

SHOWN_PROBLEMS = 20
"""In the table; JSON has all."""


@dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        title: what was measured.
        systems: name of a column -> figure -> value in [0, 1]; NaN where there is none.
        sequences: a row a sequence.
        expressions: a row an expression, or an object.
        problems: what was missing, misplaced or broken, and how it was counted.
        counts: samples, frames and the like.
    """

    title: str
    systems: Mapping[str, Mapping[str, float]]
    sequences: Sequence[Row] = ()
    expressions: Sequence[Row] = ()
    problems: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def present(result: Result, console: Console, as_json: bool, csv_folder: Path | None) -> None:
    """Prints a result and writes its CSV files, ``sequences.csv`` and ``expressions.csv``."""
    if csv_folder is not None:
        write_csv(csv_folder / "sequences.csv", result.sequences)
        write_csv(csv_folder / "expressions.csv", result.expressions)
    if as_json:
        document = {
            "title": result.title,
            "figures": {name: _plain(figures) for name, figures in result.systems.items()},
            "counts": dict(result.counts),
            "problems": list(result.problems),
        }
        write(console, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    say(console, f"{result.title}, in percent", "bold")
    console.print(_table(result))
    if result.counts:
        counted = ", ".join(f"{count} {name}" for name, count in result.counts.items())
        say(console, counted)
    for problem in result.problems[:SHOWN_PROBLEMS]:
        say(console, problem, "yellow")
    if len(result.problems) > SHOWN_PROBLEMS:
        say(console, f"… and {len(result.problems) - SHOWN_PROBLEMS} more; --json has them all")
    if csv_folder is not None:
        say(console, f"By sequence and expression: {csv_folder}")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Rows as a CSV file with a header; an empty file where there are none."""
    with replace_file(path, "w") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def mean(values: Sequence[float]) -> float:
    """The mean of the values that are a number; NaN without any."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def by_video(rows: Sequence[Row]) -> list[Row]:
    """Mean J, F and J&F of the expressions of each video, videos in the order they come."""
    videos: dict[str, list[Row]] = {}
    for row in rows:
        videos.setdefault(row["video"], []).append(row)
    return [
        {"video": video, "expressions": len(mine)}
        | {key: mean([row[key] for row in mine]) for key in ("J", "F", "J&F")}
        for video, mine in videos.items()
    ]


def _table(result: Result) -> Table:
    """Figures down and systems across, or, of many systems, the other way round."""
    labels: dict[str, None] = {}
    for figures in result.systems.values():
        labels.update((label, None) for label, value in figures.items() if not math.isnan(value))
    cells = {
        (system, label): _percent(figures.get(label, math.nan))
        for system, figures in result.systems.items()
        for label in labels
    }
    across, down = list(result.systems), list(labels)
    turned = len(across) > MAX_COLUMNS
    if turned:
        across, down = down, across
    table = grid(("", "left"), *((name, "right") for name in across))
    for name in down:
        keys = [(name, column) if turned else (column, name) for column in across]
        add_row(table, name, *(cells[key] for key in keys))
    return table


def _percent(value: float) -> str:
    """–1 is how pycocotools says that there is nothing to measure."""
    return "–" if math.isnan(value) or value == NOTHING else f"{100 * value:.2f}"


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
