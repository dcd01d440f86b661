"""Prints tables: which there are, and what was measured beside what was published."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from rich.console import Console

from flows.console import add_row, grid, say, write
from flows.papers.rows import FEW, Masks
from flows.papers.tables import TABLES, PaperTable

Figures = Mapping[str, float]

_OF_MASKS: Mapping[Masks, str] = {
    "run": "pseudo-masks",
    "few": f"pseudo-masks of {FEW} videos",
    "baseline": "masks of the plain baseline",
    "unranked": "pseudo-masks without ranking",
    "student": "what a student of weak annotation predicts",
}
_TAUGHT = {
    "masks": "all masks",
    "first_mask": "first mask",
    "boxes": "boxes",
    "first_mask_boxes": "first mask and boxes",
    "budget": "a budget of annotation",
    "text": "sentences",
}


def list_tables(console: Console) -> None:
    """Prints the names of all tables, their sources and what they ask."""
    table = grid(("table", "left"), ("from", "left"), ("asks", "left"), ("rows", "right"))
    for name, item in TABLES.items():
        add_row(table, name, item.source, item.asks, str(len(item.rows)))
    console.print(table)


def list_rows(console: Console, name: str) -> None:
    """Prints the rows of a table, whose masks teach each, and its published figures."""
    table = TABLES[name]
    drawn = grid(
        ("student", "left"), ("taught by", "left"), ("published", "left"), title=table.source
    )
    for label, row in table.rows.items():
        supervision = str(row.student.get("supervision", "pseudo_masks"))
        taught = _OF_MASKS[row.masks] if supervision == "pseudo_masks" else _TAUGHT[supervision]
        if row.before is not None:
            taught = "optical flow" + (f", then {taught}" if row.trained else "")
        elif not row.trained:
            taught = "nothing"
        figures = [
            f"{metric} {value} on {data}"
            for data, metrics in row.published.items()
            for metric, value in metrics.items()
        ]
        add_row(drawn, label, taught, "; ".join(figures))
    say(console, table.asks)
    console.print(drawn)


def show_table(
    console: Console,
    name: str,
    table: PaperTable,
    found: Mapping[str, Sequence[Figures]],
    data: str,
    note: str,
) -> None:
    """Prints the figures of a table's rows, beside the published ones.

    Args:
        found: row -> figures by seed.
        data: name of the data set that was measured, as in the published figures.
        note: what the figures are of.
    """
    many = any(len(each) > 1 for each in found.values())
    of = table.published_on(data)
    known = {
        metric
        for metric in table.metrics
        if any(metric in row.published.get(of, {}) for row in table.rows.values())
    }
    columns: list[tuple[str, Literal["left", "right"]]] = [("student", "left")]
    for metric in table.metrics:
        names = [
            metric,
            *(["±"] if many else []),
            *([f"published, {of}"] if metric in known else []),
        ]
        columns += [(column, "right") for column in names]
    drawn = grid(*columns, title=f"{name}: {table.source}")
    for label, each in found.items():
        published = table.rows[label].published.get(of, {})
        cells = []
        for metric in table.metrics:
            values = [figures[metric] for figures in each]
            cells.append(f"{statistics.fmean(values):.1f}" if values else "–")
            if many:
                cells.append(f"{statistics.stdev(values):.1f}" if len(values) > 1 else "–")
            if metric in known:
                cells.append(f"{published[metric]:.1f}" if metric in published else "–")
        add_row(drawn, label, *cells)
    say(console, table.asks)
    console.print(drawn)
    say(console, note)


def write_table(
    console: Console, table: PaperTable, found: Mapping[str, Sequence[Figures]]
) -> None:
    """Writes the figures as JSON: row -> metric -> mean, spread and the value of each seed."""
    document = {}
    for label, each in found.items():
        metrics = {}
        for metric in each[0] if each else ():
            values = [figures[metric] for figures in each]
            metrics[metric] = {
                "mean": statistics.fmean(values),
                "spread": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": values,
            }
        published = {name: dict(figures) for name, figures in table.rows[label].published.items()}
        document[label] = {"measured": metrics, "published": published}
    write(console, json.dumps(document, indent=2) + "\n")
