"""Prints plans and results on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.console import add_row, grid, say
from flows.evaluation.metrics_table import FIGURES, SYSTEMS, figure
from flows.outcome import RunOutcome, advice, outcome_lines
from flows.planning.mirrored import fetch_products
from flows.planning.plan import Plan
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGES
from flows.timing import in_words
from pipeline.config import RunConfig
from pipeline.store_urls import shown
from pipeline.text import read_text


def show_plan(console: Console, plan: Plan, run_folder: Path, skipped_too: bool = True) -> None:
    """Prints a row per stage (shards done and left, times), then failures.

    Args:
        skipped_too: print the skipped videos as well.
    """
    table = grid(
        ("stage", "left"),
        ("shards done", "right"),
        ("left", "right"),
        ("frames", "right"),
        ("seconds", "right"),
        ("of them", "left"),
        title=shown(run_folder),
    )
    skipped: dict[str, str] = {}
    for stage in STAGES:
        jobs = plan.jobs.get(stage, ())
        if not jobs:
            continue
        receipts = [job.receipt for job in jobs if job.receipt is not None]
        for receipt in receipts:
            skipped.update(receipt.skipped)
        done = sum(job.done for job in jobs)
        add_row(
            table,
            stage,
            done,
            len(jobs) - done,
            f"{sum(receipt.counts.get('frames', 0) for receipt in receipts):.0f}",
            f"{sum(receipt.seconds for receipt in receipts):.1f}",
            in_words(receipts),
        )
    console.print(table)
    for video, reason in sorted(skipped.items()) if skipped_too else ():
        say(console, f"{video}: {reason}", "yellow", label="skipped")
    for job in (job for jobs in plan.jobs.values() for job in jobs):
        if job.failure is not None:
            said = f"{job.failure.error} ({job.failure.attempts} attempts, {job.failure.time})"
            say(console, f"{job.stage} {job.shard.name}: {said}", "red", label="failed")


def show_outcome(console: Console, outcome: RunOutcome, config: RunConfig) -> None:
    """Prints what came of a run, and advice where little did."""
    first, *others = outcome_lines(outcome)
    say(console, first, "bold red" if outcome.is_little else "bold green")
    for line in others:
        say(console, line)
    for line in advice(outcome, config):
        say(console, line, "yellow")


def show_results(console: Console, run_folder: Path) -> None:
    """Prints the metrics of a run, and where its report is; of a run in an object store, the copy
    on this machine."""
    fetch_products(run_folder, ("evaluate", "report"))
    paths = RunPaths(run_folder)
    try:
        metrics: Mapping[str, Any] = json.loads(read_text(paths.metrics))
    except (OSError, ValueError):
        metrics = {}
    if any(metrics.get(name) for name in SYSTEMS):
        console.print(_metrics_table(metrics))
    elif metrics:
        say(console, "The data set has no ground truth to measure against.")
    if paths.report.exists():
        say(console, f"Report: {paths.report}")


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    systems = [name for name in SYSTEMS if metrics.get(name)]
    table = grid(
        ("", "left"),
        *((SYSTEMS[name], "right") for name in systems),
        title="Against ground truth, in percent",
    )
    for label, keys in FIGURES:
        cells = [_number(figure(metrics[name], keys)) for name in systems]
        if any(cell != "–" for cell in cells):
            add_row(table, label, *cells, style="bold" if keys == ("overall", "J&F") else None)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
