"""``run --dry-run``: what a run would do, stage by stage, and why; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from flows.console import say
from flows.dataset import shapes_to_render
from flows.labelling.opened_run import selection_lines
from flows.labelling.preflight import check_before_start
from flows.planning.disk_estimate import disk_forecast
from flows.planning.plan import Job, Plan
from flows.planning.stage_selection import Scope
from flows.planning.stages import SHARD_STAGES
from flows.planning.time_estimate import WORTH_SAYING, forecast, in_words, seconds_left
from pipeline.config import RunConfig
from storage.run.ledger import Ledger


def explain(config: RunConfig, console: Console, scope: Scope, retry_skipped: bool) -> None:
    """Prints what ``run`` would do.

    Raises:
        PseudoLabelError: the run could not start.
    """
    from flows.context import RunContext

    missing = shapes_to_render(config)
    if missing is not None:
        say(console, f"shapes: {missing} would be rendered; then every stage would run")
        return
    context = RunContext(config)
    plan = context.make_plan(retry_skipped, scope, remember=False)
    check_before_start(context, plan)
    space = disk_forecast(plan, Ledger(config.run_folder), config.run_folder)
    for line in [*selection_lines(plan), *plan_lines(plan), *filter(None, [space])]:
        say(console, line)


def plan_lines(plan: Plan) -> list[str]:
    """Returns a line per stage with something to do, and an estimate of the time."""
    lines = [
        line
        for stage in plan.stages
        if (line := _stage_line(stage, plan.jobs.get(stage, ()))) is not None
    ]
    if not lines:
        return ["Nothing to do: everything is done."]
    return [*lines, *filter(None, [forecast(plan)])]


def _stage_line(stage: str, jobs: Sequence[Job]) -> str | None:
    due = [job for job in jobs if job.state == "due"]
    waits = [job for job in jobs if job.state == "waits"]
    whole = stage not in SHARD_STAGES
    if due:
        reasons = Counter(job.reason for job in due).most_common()
        why = ", ".join([reasons[0][0]] if len(reasons) == 1 else [])
        why = why or "; ".join(f"{count} {reason}" for reason, count in reasons)
        head = f"{stage}: the whole run" if whole else f"{stage}: {len(due)} of {len(jobs)} shards"
        if waits:
            why += f"; {len(waits)} more if {_names(waits)} come out different"
        seconds = None if whole else seconds_left(jobs)
        if seconds is not None and seconds >= WORTH_SAYING:
            why += f"; about {in_words(seconds)}"
        return f"{head}, {why}"
    if waits:
        names = _names(waits)
        head = f"{stage}:" if whole else f"{stage}: {len(waits)} of {len(jobs)} shards"
        return f"{head} only if {names} comes out different"
    return None


def _names(waits: Sequence[Job]) -> str:
    return ", ".join(dict.fromkeys(job.reason.removeprefix("follows ") for job in waits))
