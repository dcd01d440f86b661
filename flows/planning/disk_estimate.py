"""Estimates the disk space that the rest of a run takes, by what the finished shards take."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.planning.plan import Job, Plan
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
        to_come = sum(len(job.shard.videos) for job in jobs if job.receipt is None)
        if stage not in plan.stages or not to_come:
            continue
        pace = _bytes_per_video([job for job in jobs if job.receipt is not None], ledger)
        if pace is not None:
            found[stage] = pace * to_come
    return found


def disk_by_stage(plan: Plan, ledger: Ledger) -> str:
    """Returns the gigabytes that each stage will still write, in a sentence. Empty if none will.

    A stage without receipts was not measured.
    """
    left = bytes_left(plan, ledger)
    words = []
    for stage in SHARD_STAGES:
        due = any(job.receipt is None for job in plan.jobs.get(stage, ()))
        if stage in plan.stages and due:
            words.append(f"{stage} {_size(left[stage]) if stage in left else 'not measured'}")
    return f"Disk space by stage: {', '.join(words)}." if words else ""


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


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


def _bytes_per_video(jobs: Sequence[Job], ledger: Ledger) -> float | None:
    size = videos = 0
    for job in jobs[:: max(1, len(jobs) // SAMPLE)]:
        receipt = ledger.receipt(job.stage, job.shard.name)
        if receipt is not None:
            size += sum(int(mark.split()[0]) for mark in receipt.files.values())
            videos += len(receipt.videos)
    return size / videos if videos else None
