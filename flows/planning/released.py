"""Knows what `keep = "masks"` has removed, and says how to get it back."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from flows.planning.plan import Plan
from flows.planning.run_paths import RunPaths
from flows.planning.stages import SHARD_STAGES
from pipeline.errors import StoreError
from pipeline.types import Receipt
from storage.run.ledger import Ledger

REMOVED_FROM = ("segment", "track", "fuse")
"""Stages with products that finished masks do not need."""


class ReleasedError(StoreError):
    """What is asked for was removed on purpose when the masks were finished."""


def check_there(paths: RunPaths, shards: Iterable[str], purpose: str) -> None:
    """Raises ReleasedError if candidates or hypotheses of a shard were released.

    Args:
        purpose: what needs them, for the message.
    """
    ledger = Ledger(paths.folder)
    for shard in shards:
        for stage in REMOVED_FROM:
            receipt = ledger.receipt(stage, shard)
            if receipt is not None and receipt.released:
                place = paths.candidates_and_hypotheses(stage, shard)[0]
                raise ReleasedError(
                    f'{place}: removed when the masks were finished (keep="masks"); expected it'
                    f" for {purpose}; make it again with `{command_to_make_again(paths)}`"
                )


def command_to_make_again(paths: RunPaths) -> str:
    """Returns the command that makes what was released again, and keeps it."""
    config = shlex.quote(str(paths.config))
    return f"pseudolabels run --config {config} --from-stage segment --to-stage rank keep=all"


def released_line(plan: Plan) -> str:
    """Returns in a sentence what was released; empty if nothing was."""
    receipts = [
        job.receipt
        for stage in SHARD_STAGES
        for job in plan.jobs.get(stage, ())
        if job.receipt is not None and job.receipt.released
    ]
    if not receipts:
        return ""
    shards = len({receipt.shard for receipt in receipts})
    size = sum(receipt.released for receipt in receipts)
    word = "shard" if shards == 1 else "shards"
    return (
        f'Candidates and hypotheses of {shards} {word} were released (keep="masks"):'
        f" {in_bytes(size)}."
    )


def kept_and_loose(receipt: Receipt) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the files of a product that stay, and those that finished masks do not need."""
    paths = RunPaths(Path())
    places = paths.candidates_and_hypotheses(receipt.stage, receipt.shard)
    starts = tuple(f"{place.as_posix()}/" for place in places)
    kept, loose = dict[str, str](), dict[str, str]()
    for name, mark in receipt.files.items():
        (loose if starts and name.startswith(starts) else kept)[name] = mark
    return kept, loose


def total_bytes(files: Mapping[str, str]) -> int:
    """Returns the size of files by their marks."""
    return sum(int(mark.split()[0]) for mark in files.values())


def in_bytes(size: float) -> str:
    """Returns a number of bytes in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
