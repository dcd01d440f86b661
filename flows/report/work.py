"""Counts what the stages of a run did, by their receipts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flows.context import RunContext
from flows.planning.stages import ALL, SHARD_STAGES, STAGE, STAGES
from flows.report.stage_table import stage_rows
from flows.timing import KINDS
from pipeline.judgements import OUTCOMES
from pipeline.types import Failure
from storage.run.ledger import Ledger

JUDGED = {
    "asked": "sentences in doubt",
    "questions": "questions to the judge",
    "answers that cannot be read": "answers that cannot be read",
    "tokens read": "tokens read",
    "tokens written": "tokens written",
    **{f"judged: {outcome}": outcome for outcome in OUTCOMES},
}
"""Counts of the receipts of `judge` -> their words."""


@dataclass(frozen=True)
class Work:
    """Times and counts of stages, skipped videos, unusable answers of the captioner, and
    failures."""

    stages: list[dict[str, Any]]
    skipped: list[tuple[str, str, str]]
    left_out: list[tuple[str, int]]
    texts: dict[str, int]
    judged: dict[str, int]
    failed: list[Failure] = field(default_factory=list)


def read_work(context: RunContext) -> Work:
    """Returns what the receipts of the run's shards say."""
    assert context.plan is not None
    ledger = Ledger(context.config.run_folder)
    shards = {ALL, *(shard.name for shard in context.plan.run_shards)}
    rows: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    skipped: list[tuple[str, str, str]] = []
    for stage in STAGES:
        if not STAGE[stage].is_on(context.config) and stage in SHARD_STAGES:
            continue
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
                elif stage == "judge" and name in JUDGED:
                    judged[JUDGED[name]] += int(count)
    failed = [failure for stage in STAGES for failure in ledger.failures(stage)]
    reasons = left_out.most_common()
    return Work(rows, sorted(skipped), reasons, dict(texts), dict(judged), failed)
