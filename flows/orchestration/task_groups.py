"""Puts jobs into groups, so that a flow run has no more than a few thousand task runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flows.planning.plan import Job, Plan
from flows.planning.stages import STAGES

MOST_TASK_RUNS = 500
"""Task runs of a stage. The UI lists them all, and the server stores several states of each."""


def groups_of(jobs: Sequence[Job]) -> Iterator[tuple[Job, ...]]:
    """Yields jobs of a stage in groups of nearly the same size, in their order.

    Up to :data:`MOST_TASK_RUNS` jobs are groups of one.
    """
    size = -(-len(jobs) // MOST_TASK_RUNS) or 1
    for start in range(0, len(jobs), size):
        yield tuple(jobs[start : start + size])


def name_of(group: Sequence[Job]) -> str:
    """Returns the name of a group's task run."""
    if len(group) == 1:
        return group[0].name
    first, last = group[0].shard.name, group[-1].shard.name
    return f"{group[0].stage} {first}–{last}"


def task_runs(plan: Plan, stages: Sequence[str] = STAGES) -> int:
    """Returns the number of task runs that the jobs of some stages come to at most."""
    left = ([job for job in plan.jobs.get(stage, ()) if not job.done] for stage in stages)
    return sum(len(list(groups_of(jobs))) for jobs in left)
