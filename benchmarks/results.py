"""Writes the results of a finished run of `make pseudolabels` into the table of README.md.

    .venv/bin/python -m benchmarks.results [RUN]

Reads `metrics.json` of the run. Replaces what stands between the two marks
`<!-- results -->` of README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.evaluation.metrics_table import FIGURES, SYSTEMS, figure

MARK = "<!-- results -->"
LEFT_OUT = (
    "J",
    "F",
    "frames with a mask",
    "frames called absent",
    "frames unknown",
    "visible frames, too much",
    "visible frames, too little",
)
"""Rows of the terminal's table that README does not show."""


def table(metrics: dict[str, Any]) -> str:
    """Returns the metrics as a Markdown table, in percent."""
    lines = [
        f"| in percent | {' | '.join(SYSTEMS.values())} |",
        f"|---{'|---' * len(SYSTEMS)}|",
    ]
    for label, keys in FIGURES:
        if label in LEFT_OUT:
            continue
        values = [figure(metrics.get(system), keys) for system in SYSTEMS]
        cells = ("–" if value is None else f"{value:.1f}" for value in values)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(text: str, rows: str) -> str:
    """Returns a page with its results table replaced.

    Raises:
        ValueError: the page does not have the two marks, or no table between them.
    """
    before, part, after = text.split(MARK)
    lines = part.split("\n")
    places = [row for row, line in enumerate(lines) if line.startswith("|")]
    if not places:
        raise ValueError("no table between the marks")
    lines[places[0] : places[-1] + 1] = rows.split("\n")
    return MARK.join((before, "\n".join(lines), after))


def main(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")] = Path("runs/shapes-train"),
) -> None:
    page = Path(__file__).parents[1] / "README.md"
    rows = table(json.loads((run / "metrics.json").read_text(encoding="utf-8")))
    page.write_text(with_table(page.read_text(encoding="utf-8"), rows), encoding="utf-8")
    print(rows)


if __name__ == "__main__":
    typer.run(main)
