"""Removes what is damaged in a run, so that the next run makes it again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from flows.integrity.contents import Contents, Problem
from flows.integrity.leftovers import student_folders
from flows.integrity.verify import verify
from flows.planning.mirrored import remove_product
from flows.planning.run_paths import RunPaths
from flows.planning.stages import SHARD_STAGES, STAGE
from pipeline.errors import RunLockedError
from storage.run.layout import known_layout, layout_of_receipts, layout_path, write_layout
from storage.run.ledger import Ledger
from storage.run.lock import RunLock


@dataclass(frozen=True)
class Repair:
    """The outcome of a repair.

    Attributes:
        problems: everything that was wrong.
        undone: (stage, shard) whose receipts and products were removed.
        removed: leftovers and damaged files without a receipt.
    """

    problems: tuple[Problem, ...]
    undone: tuple[tuple[str, str], ...]
    removed: tuple[Path, ...]


def repair(
    folder: Path, found: Contents, progress: Callable[[int], None] = lambda _: None
) -> Repair:
    """Removes receipts of damaged products, and what is left without a receipt.

    Call it under the run's lock.

    Args:
        folder: of the run.
        found: filled in with what the ledger held.
        progress: called with numbers of bytes that were read.

    Raises:
        InputError: the folder is not a run.
    """
    problems = tuple(verify(folder, found, progress))
    paths, ledger = RunPaths(folder), Ledger(folder)
    if any(problem.path == layout_path(folder) for problem in problems):
        write_layout(folder, layout_of_receipts(ledger, SHARD_STAGES))
    layout = known_layout(folder, SHARD_STAGES)
    bad = sorted({(p.stage, p.shard) for p in problems if p.stage})
    kept = {
        video
        for (stage, shard), videos in found.videos.items()
        if stage == "rank" and (stage, shard) not in bad
        for video in videos
    }
    for stage, shard in bad:
        videos = found.videos.get((stage, shard)) or layout.get(shard, ())
        ledger.withdraw(stage, shard)
        # A shard that is not in the layout can claim a video of another shard.
        mine = [video for video in videos if video not in kept]
        remove_product(folder, STAGE[stage].product(paths, shard, mine))
    removed = tuple(
        place
        for place in (problem.place for problem in problems)
        if place is not None and _removed(folder, place)
    )
    return Repair(problems, tuple(bad), removed)


def _removed(folder: Path, place: Path) -> bool:
    """Removes a place under the lock that stands for it, and says whether it did: a student that
    trains by itself holds one of its own."""
    student = next((item for item in student_folders(folder) if item in place.parents), None)
    try:
        with nullcontext() if student is None else RunLock(student):
            remove_product(folder, [place])
    except RunLockedError:
        return False
    return True
