"""``pseudolabels diff``: compare the masks of two runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import example, resolve_run
from flows.console import Output, add_row, grid, say

if TYPE_CHECKING:
    from flows.review.diff import Comparison

SHOWN = 20
"""Samples that the terminal shows."""

console = Output()


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(epilog=example("diff before/shapes-train after/shapes-train --out diff.html"))(diff)


def diff(
    before: Annotated[Path, typer.Argument(metavar="RUN", help="Folder or address of a run.")],
    after: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder or address of the run to compare.")
    ],
    page: Annotated[
        Path | None, typer.Option("--out", help="HTML file that shows the masks side by side.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder or address of the data set, if it was moved since.")
    ] = None,
) -> None:
    """Compare the masks of two runs: IoU between them, verdicts that turned, and metrics."""
    from flows.context import RunContext
    from flows.review.diff import compare, write_page

    one, other = (
        RunContext(resolve_run([str(folder)], None, None, root, None, None))
        for folder in (before, after)
    )
    with console.status("Comparing masks"):
        found = compare(one, other)
    _show(found)
    if page is not None:
        write_page(page, one, other, found)
        say(console, f"Side by side: {page}")


def _show(found: Comparison) -> None:
    say(
        console,
        f"{len(found.changes)} samples differ, {found.same} are the same,"
        f" {len(found.missing)} cannot be compared",
    )
    if found.metrics:
        table = grid(("metric", "left"), ("before", "right"), ("after", "right"))
        for label, *values in found.metrics:
            add_row(table, label, *("–" if value is None else f"{value:.1f}" for value in values))
        console.print(table)
    for (old, new), count in found.turned.most_common():
        say(console, f"{count} frames: {old} before, {new} after")
    if found.changes:
        table = grid(
            ("sample", "left"),
            ("sentence", "left"),
            ("IoU", "right"),
            ("frames", "right"),
            title="Most changed",
        )
        for item in found.changes[:SHOWN]:
            name, frames = f"{item.video} {item.expression}", f"{item.frames} of {item.total}"
            add_row(table, name, item.text, f"{item.iou:.2f}", frames)
        console.print(table)
