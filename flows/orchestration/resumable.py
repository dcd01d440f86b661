"""Finds the runs that can go on, among those that this machine knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flows.context import RunContext
from flows.orchestration.watching.known_runs import known_runs
from flows.planning.run_config import config_of_run
from pipeline.errors import PseudoLabelError
from storage.run.lock import lock_holder


def resumable() -> Iterator[tuple[Path, str]]:
    """Yields (folder, what is left or in the way) of the known runs that are not done."""
    for folder in known_runs():
        if (words := _what_is_left(folder)) is not None:
            yield folder, words


def _what_is_left(folder: Path) -> str | None:
    try:
        holder = lock_holder(folder)
        if holder is not None:
            return f"{holder} works on it"
        plan = RunContext(config_of_run(folder)).make_plan(remember=False)
    except (PseudoLabelError, OSError) as error:
        return f"cannot go on: {error}"
    left = [
        f"{stage} {len(jobs)} of {len(plan.jobs[stage])}"
        for stage in plan.stages
        if (jobs := plan.pending(stage))
    ]
    return f"left: {', '.join(left)}" if left else None
