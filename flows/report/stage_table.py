"""Summarises the receipts of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.context import RunContext
from flows.planning.stages import ALL, STAGES
from flows.timing import KINDS, shares
from pipeline.types import Failure, Receipt
from storage.run.ledger import Ledger

SHARES = {
    "busy": "busy, percent",
    "frames": "waits for frames, percent",
    "writes": "waits for writes, percent",
}
"""Where a stage's seconds go; the words of the tables."""


@dataclass(frozen=True)
class Work:
    """Times and counts of stages, skipped videos, unusable answers of the captioner, and
    failures."""

    stages: list[dict[str, Any]]
    skipped: list[tuple[str, str, str]]
    left_out: list[tuple[str, int]]
    texts: dict[str, int]
    failed: list[Failure] = field(default_factory=list)


def read_work(context: RunContext) -> Work:
    """Returns what the receipts of the run's shards say."""
    assert context.plan is not None
    ledger = Ledger(context.config.run_folder)
    shards = {ALL, *(shard.name for shard in context.plan.run_shards)}
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    skipped: list[tuple[str, str, str]] = []
    for stage in STAGES:
        # One stage after the other: all receipts of a large run do not fit into memory.
        receipts = [item for item in ledger.each(stage) if item.shard in shards]
        rows += stage_rows(receipts)
        for receipt in receipts:
            skipped += [(video, stage, reason) for video, reason in receipt.skipped.items()]
            for name, count in receipt.counts.items():
                if name.startswith("left out: "):
                    left_out[name.removeprefix("left out: ")] += int(count)
                elif stage == "augment" and name not in KINDS:
                    texts[name] += int(count)
    failed = [failure for stage in STAGES for failure in ledger.failures(stage)]
    return Work(rows, sorted(skipped), left_out.most_common(), dict(texts), failed)


def stage_rows(receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """Returns one row per stage, in the order of the receipts."""
    rows: dict[str, dict[str, Any]] = {}
    for receipt in receipts:
        row = rows.setdefault(
            receipt.stage,
            {"stage": receipt.stage, "shards": 0, "videos": 0, "frames": 0, "skipped": 0}
            | {"seconds": 0.0},
        )
        row["shards"] += 1
        row["videos"] += int(receipt.counts.get("videos", 0))
        row["frames"] += int(receipt.counts.get("frames", 0))
        row["skipped"] += len(receipt.skipped)
        row["seconds"] = round(row["seconds"] + receipt.seconds, 2)
    for row in rows.values():
        pace = row["frames"] / row["seconds"] if row["seconds"] else 0.0
        row["frames a second"] = round(pace, 1)
        mine = shares([item for item in receipts if item.stage == row["stage"]])
        for name, label in SHARES.items():
            row[label] = round(100 * mine[name], 1) if name in mine else None
    return list(rows.values())
