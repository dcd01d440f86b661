"""``pseudolabels status``: print what of a run is done, running, failed and skipped."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from flows.commands.dry_run import plan_lines
from flows.commands.terminal import show_plan, show_results
from flows.console import say
from flows.orchestration.servers.observed import mark_crashed
from flows.planning.plan import Plan
from flows.planning.released import released_line
from storage.run.lock import lock_holder, was_left


def show_status(console: Console, plan: Plan, folder: Path) -> None:
    """Prints the state of a run. Writes nothing to it. If its process was killed, its flow run is
    marked as crashed.
    """
    show_plan(console, plan, folder)
    if plan.finished_others:
        say(
            console,
            f"{len(plan.finished_others)} finished shards hold videos that were not asked for.",
        )
    if line := released_line(plan):
        say(console, line)
    holder = lock_holder(folder)
    if holder is not None:
        at_work = next((job.stage for stage in plan.stages for job in plan.pending(stage)), None)
        say(console, f"Running: {holder}" + (f", at {at_work}." if at_work else "."))
    elif was_left(folder):
        say(console, "The last process that worked on it was killed.", "yellow")
        for name in mark_crashed():
            say(console, f"Marked as crashed in the Prefect UI: {name}")
    left = plan_lines(plan) if plan.pending() else []
    if left:
        say(console, "Left to do:")
    for line in left:
        say(console, f"  {line}")
    show_results(console, folder)
