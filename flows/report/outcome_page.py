"""Writes what came of a run as Markdown, for the Prefect UI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flows.evaluation.metrics_table import FIGURES, SYSTEMS, figure
from flows.outcome import RunOutcome, outcome_lines
from pipeline.text import markdown_escaped
from pipeline.types import Status

SHOWN_SKIPPED = 200
"""Skipped videos that the page names."""


def kept_share(outcome: RunOutcome) -> float:
    """Returns the share of frames with a mask, in [0, 1]; 0 without frames."""
    statuses = outcome.statuses
    return statuses[Status.PRESENT] / statuses.total() if statuses.total() else 0.0


def outcome_page(
    outcome: RunOutcome, metrics: Mapping[str, Any], failed: Mapping[tuple[str, str], str]
) -> str:
    """Returns what a run made, what it rejected and why, its metrics, and what it skipped.

    Args:
        metrics: content of ``metrics.json``; empty if there is none.
        failed: (stage, shard) -> error, of the shards that failed.
    """
    parts = [markdown_escaped(outcome_lines(outcome)[0])]
    if reasons := outcome.reasons:
        rows = [(reason, f"{count:,}") for reason, count in reasons.most_common()]
        parts.append("### Frames without a mask\n\n" + table(("reason", "frames"), rows))
    if found := _metrics(metrics):
        parts.append("### Against ground truth, in percent\n\n" + found)
    if outcome.skipped:
        shown = sorted(outcome.skipped.items())[:SHOWN_SKIPPED]
        more = len(outcome.skipped) - len(shown)
        text = table(("video", "reason"), shown) + (f"\n\n… and {more} more" if more else "")
        parts.append(f"### Skipped videos ({len(outcome.skipped)})\n\n{text}")
    if failed:
        rows = [(f"{stage} {shard}", error) for (stage, shard), error in failed.items()]
        parts.append("### Failed shards\n\n" + table(("shard", "error"), rows))
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table. Cells are shown as they are."""
    lines = [head, ["---"] * len(head)]
    lines += [[markdown_escaped(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _metrics(metrics: Mapping[str, Any]) -> str:
    names = [name for name in SYSTEMS if metrics.get(name)]
    rows = []
    for label, keys in FIGURES:
        values = [figure(metrics[name], keys) for name in names]
        if any(value is not None for value in values):
            cells = ["–" if value is None else f"{value:.1f}" for value in values]
            rows.append((label, *cells))
    return table(("", *(SYSTEMS[name] for name in names)), rows) if rows else ""
