"""How long what is left of a run will take, at the pace of what is done."""

from __future__ import annotations

from collections.abc import Sequence

from flows.planning.plan import Job, Plan
from flows.planning.stages import SHARD_STAGES

WORTH_SAYING = 10.0
"""Seconds; of less nobody needs to be told."""


def seconds_left(jobs: Sequence[Job]) -> float | None:
    """Seconds of work on a stage's jobs that are due, by the mean time of a video in its receipts,
    of whatever configuration; None where there is no receipt to go by.
    """
    receipts = [job.receipt for job in jobs if job.receipt is not None]
    videos = sum(len(receipt.videos) for receipt in receipts)
    if not videos:
        return None
    pace = sum(receipt.seconds for receipt in receipts) / videos
    return pace * sum(len(job.shard.videos) for job in jobs if job.state == "due")


def forecast(plan: Plan) -> str:
    """What is left of the stages that go shard by shard, such as ``About 14 h 10 min of work are
    left, and what segment takes: none of it is done yet.``; empty where there is little, or nothing
    to go by.
    """
    due = [stage for stage in SHARD_STAGES if stage in plan.stages and plan.pending(stage)]
    left = {stage: seconds_left(plan.jobs[stage]) for stage in due}
    known = sum(seconds for seconds in left.values() if seconds is not None)
    if known < WORTH_SAYING:
        return ""
    unknown = [stage for stage, seconds in left.items() if seconds is None]
    and_more = f", and what {' and '.join(unknown)} takes: none of it is done yet" * bool(unknown)
    return f"About {in_words(known)} of work are left{and_more}."


def in_words(seconds: float) -> str:
    """In the two largest units: ``2 d 3 h``, ``3 h 20 min``, ``50 s``."""
    rest, parts = max(1, round(seconds)), []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, name))
    largest = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {name}" for count, name in parts[largest : largest + 2] if count)
