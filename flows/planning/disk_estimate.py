"""Estimates the disk space that the rest of a run takes, by what the finished shards take."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.planning.plan import Job, Plan
from flows.planning.released import in_bytes, kept_and_loose, total_bytes
from flows.planning.stages import SHARD_STAGES
from storage.run.ledger import Ledger

WORTH_SAYING = 100e6
"""Bytes; smaller estimates are not shown."""

SAMPLE = 32
"""Receipts of a stage that are read: their lists of files are long."""


def bytes_left(plan: Plan, ledger: Ledger) -> Mapping[str, float]:
    """Returns stage -> bytes that its shards without a product will take, at the mean per video of
    its receipts. A stage without receipts is left out.
    """
    found = {}
    for stage in SHARD_STAGES:
        jobs = plan.jobs.get(stage, ())
        to_come = sum(len(job.shard.videos) for job in jobs if _takes_room(job))
        if stage not in plan.stages or not to_come:
            continue
        pace = _measured([job for job in jobs if job.receipt is not None], ledger)
        if pace is not None:
            found[stage] = pace.whole * to_come
    return found


def disk_by_stage(plan: Plan, ledger: Ledger) -> str:
    """Returns the gigabytes that each stage will still write, in a sentence. Empty if none will.

    A stage without receipts was not measured.
    """
    left = bytes_left(plan, ledger)
    words = []
    for stage in SHARD_STAGES:
        due = any(_takes_room(job) for job in plan.jobs.get(stage, ()))
        if stage in plan.stages and due:
            words.append(f"{stage} {in_bytes(left[stage]) if stage in left else 'not measured'}")
    return f"Disk space by stage: {', '.join(words)}." if words else ""


def _takes_room(job: Job) -> bool:
    """Whether a job writes to where nothing is now."""
    return job.receipt is None or bool(job.receipt.released and job.state == "due")


def disk_in_the_end(plan: Plan, ledger: Ledger) -> str:
    """Returns what the finished shards take with ``keep = "all"`` and with ``keep = "masks"``, by
    the receipts, in a sentence. Empty where a stage was not measured."""
    whole = released = 0.0
    for stage in SHARD_STAGES:
        jobs = plan.jobs.get(stage, ())
        if not jobs:
            continue
        videos = sum(len(job.shard.videos) for job in jobs)
        found = _measured([job for job in jobs if job.receipt is not None], ledger)
        if found is None:
            return ""
        whole += found.whole * videos
        released += found.released * videos
    return (
        f'Disk space of finished shards: {in_bytes(whole)} with keep="all",'
        f' {in_bytes(whole - released)} with keep="masks".'
    )


def disk_forecast(plan: Plan, ledger: Ledger, folder: Path) -> str:
    """Returns the estimate and the free space, in a sentence. Empty if little is to come, or
    nothing is known.

    Args:
        folder: of the run, which need not exist.
    """
    left = bytes_left(plan, ledger)
    whole = sum(left.values())
    if whole < WORTH_SAYING:
        return ""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    most = max(left, key=lambda stage: left[stage])
    said = (
        f"About {whole / 1e9:.1f} GB more will be written, {left[most] / 1e9:.1f} GB of it by"
        f" {most}; {free / 1e9:.1f} GB are free at {folder}."
    )
    return said if whole < free else f"{said} Free some space, or set out to another disk."


@dataclass(frozen=True)
class _PerVideo:
    """Bytes of a stage's product, and those of them that ``keep = "masks"`` removes."""

    whole: float
    released: float


def _measured(jobs: Sequence[Job], ledger: Ledger) -> _PerVideo | None:
    """Returns the mean over the videos of some receipts; None without receipts."""
    whole = released = videos = 0
    for job in jobs[:: max(1, len(jobs) // SAMPLE)]:
        receipt = ledger.receipt(job.stage, job.shard.name)
        if receipt is None:
            continue
        kept, loose = kept_and_loose(receipt)
        removed = receipt.released + total_bytes(loose)
        released += removed
        whole += removed + total_bytes(kept)
        videos += len(receipt.videos)
    return _PerVideo(whole / videos, released / videos) if videos else None
