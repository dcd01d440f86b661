"""Estimates the time that the rest of a run takes, at the pace so far."""

from __future__ import annotations

from collections.abc import Sequence

from flows.planning.plan import Job, Plan
from flows.planning.stages import SHARD_STAGES

WORTH_SAYING = 10.0
"""Seconds; shorter estimates are not shown."""


def seconds_left(jobs: Sequence[Job]) -> float | None:
    """Returns the seconds that a stage's due jobs take, at the mean time per video of its receipts,
    with any configuration. None if there is no receipt.
    """
    receipts = [job.receipt for job in jobs if job.receipt is not None]
    videos = sum(len(receipt.videos) for receipt in receipts)
    if not videos:
        return None
    pace = sum(receipt.seconds for receipt in receipts) / videos
    return pace * sum(len(job.shard.videos) for job in jobs if job.state == "due")


def forecast(plan: Plan) -> str:
    """Returns an estimate for the stages with shards, in words. Empty if little is left, or nothing
    is known.
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
    """Returns a time in its two largest units: ``2 d 3 h``, ``3 h 20 min``, ``50 s``."""
    rest, parts = max(1, round(seconds)), []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        parts.append((count, name))
    largest = next(place for place, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {name}" for count, name in parts[largest : largest + 2] if count)
