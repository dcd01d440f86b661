"""Summarises the receipts of a run by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.timing import shares
from pipeline.types import Receipt

SHARES = {
    "busy": "busy, percent",
    "frames": "waits for frames, percent",
    "writes": "waits for writes, percent",
}
"""Where a stage's seconds go; the words of the tables."""


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
