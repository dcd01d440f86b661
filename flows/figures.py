"""Figures of the work, out of receipts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.types import Receipt


def stage_rows(receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    """A row a stage, in the order of the receipts."""
    rows: dict[str, dict[str, Any]] = {}
    for receipt in receipts:
        row = rows.setdefault(
            receipt.stage,
            {"stage": receipt.stage, "shards": 0, "videos": 0, "frames": 0, "set aside": 0}
            | {"seconds": 0.0},
        )
        row["shards"] += 1
        row["videos"] += int(receipt.counts.get("videos", 0))
        row["frames"] += int(receipt.counts.get("frames", 0))
        row["set aside"] += len(receipt.set_aside)
        row["seconds"] = round(row["seconds"] + receipt.seconds, 2)
    for row in rows.values():
        pace = row["frames"] / row["seconds"] if row["seconds"] else 0.0
        row["frames a second"] = round(pace, 1)
    return list(rows.values())
