"""What the terminal shows of a plan and of results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.planning.plan import Plan
from flows.planning.run_paths import STAGES, RunPaths
from flows.timing import in_words
from pipeline.text import read_text

SYSTEMS = {"pseudo_masks": "pseudo-masks", "baseline": "plain baseline", "student": "student"}


def show_plan(console: Console, plan: Plan, run_folder: Path) -> None:
    """A row a stage: shards done and left, seconds and where they went, videos set aside."""
    table = Table(title=str(run_folder), title_justify="left", header_style="bold")
    for name, side in (
        ("stage", "left"),
        ("done", "right"),
        ("left", "right"),
        ("frames", "right"),
        ("seconds", "right"),
        ("of them", "left"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left")
    set_aside: dict[str, str] = {}
    for stage in STAGES:
        jobs = plan.jobs.get(stage, ())
        if not jobs:
            continue
        receipts = [job.receipt for job in jobs if job.receipt is not None]
        for receipt in receipts:
            set_aside.update(receipt.set_aside)
        done = sum(job.done for job in jobs)
        table.add_row(
            stage,
            str(done),
            str(len(jobs) - done),
            f"{sum(receipt.counts.get('frames', 0) for receipt in receipts):.0f}",
            f"{sum(receipt.seconds for receipt in receipts):.1f}",
            in_words(receipts),
        )
    console.print(table)
    for video, reason in sorted(set_aside.items()):
        console.print(f"[yellow]set aside[/yellow] {escape(video)}: {escape(reason)}")
    for job in (job for jobs in plan.jobs.values() for job in jobs):
        if job.failure is not None:
            console.print(
                f"[red]failed[/red] {job.stage} {job.shard.name}: {escape(job.failure.error or '')}"
                f" ({job.failure.attempts} attempts, {job.failure.time})",
                soft_wrap=True,
                highlight=False,
            )


def show_results(console: Console, run_folder: Path) -> None:
    """The figures of metrics.json, and where the report is."""
    paths = RunPaths(run_folder)
    try:
        metrics: Mapping[str, Any] = json.loads(read_text(paths.metrics))
    except (OSError, ValueError):
        metrics = {}
    if any(metrics.get(name) for name in SYSTEMS):
        console.print(_metrics_table(metrics))
    elif metrics:
        console.print("The data set has no truth to measure against.")
    if paths.report.exists():
        console.print(f"Report: {paths.report}", highlight=False, soft_wrap=True)


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    systems = [name for name in SYSTEMS if metrics.get(name)]
    table = Table(title="Against truth, in percent", title_justify="left", header_style="bold")
    table.add_column("")
    for name in systems:
        table.add_column(SYSTEMS[name], justify="right")
    for label, keys in FIGURES:
        cells = [_number(figure(metrics[name], keys)) for name in systems]
        if any(cell != "–" for cell in cells):
            table.add_row(label, *cells, style="bold" if keys == ("overall", "J&F") else None)
    return table


FIGURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("J&F", ("overall", "J&F")),
    ("J", ("overall", "J")),
    ("F", ("overall", "F")),
    ("J&F, appearance", ("by_kind", "appearance", "J&F")),
    ("J&F, place", ("by_kind", "place", "J&F")),
    ("J&F, motion", ("by_kind", "motion", "J&F")),
    ("J&F, relation", ("by_kind", "relation", "J&F")),
    ("frames kept", ("frames_kept",)),
    ("J&F, dropped frames as misses", ("overall_with_dropped_as_misses", "J&F")),
    ("absent frames found", ("absent_frames_found",)),
)
"""What is shown of a system: a label, and where metrics.json has it."""


def figure(values: Any, keys: Sequence[str]) -> float | None:
    """One figure of a system; None where there is none."""
    for key in keys:
        values = None if values is None else values.get(key)
    return None if values is None else float(values)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
