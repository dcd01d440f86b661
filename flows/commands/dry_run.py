"""``run --dry-run``: what a run would do, stage by stage, and why; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console

from flows.console import say
from flows.dataset import shapes_to_render
from flows.labelling.opened_run import selection_lines
from flows.labelling.preflight import check_before_start
from flows.planning.disk_estimate import disk_by_stage, disk_forecast, disk_in_the_end
from flows.planning.mirrored import refresh, store_line
from flows.planning.plan import Job, Plan
from flows.planning.released import in_bytes
from flows.planning.stage_selection import Scope
from flows.planning.stages import SHARD_STAGES
from flows.planning.time_estimate import WORTH_SAYING, forecast, in_words, seconds_left
from flows.planning.work_estimate import Price, work_lines
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, InputError
from storage.datasets import LOOKS_AT_FRAMES
from storage.run.ledger import Ledger

if TYPE_CHECKING:
    from flows.context import RunContext

MOST_BYTES = 1e9
"""That a dry run downloads to read the index of a data set."""


def given_price(values: tuple[float, float] | None, dry_run: bool) -> Price | None:
    """Returns the price of ``--price-per-million-tokens``.

    Raises:
        ConfigError: it is below 0, or it is not a dry run.
    """
    if values is None:
        return None
    if not (dry_run and min(values) >= 0):
        raise ConfigError(
            f"--price-per-million-tokens {values[0]:g} {values[1]:g}: expected two prices of 0 or"
            " more, for tokens read and written, together with --dry-run"
        )
    return Price(*values)


def explain(
    config: RunConfig,
    console: Console,
    scope: Scope,
    retry_skipped: bool,
    price: Price | None = None,
) -> None:
    """Prints what ``run`` would do, and what it costs.

    Args:
        price: of a million tokens; None if it is not known.

    Raises:
        PseudoLabelError: the run could not start.
    """
    from flows.context import RunContext

    missing = shapes_to_render(config)
    if missing is not None:
        say(console, f"shapes: {missing} would be rendered; then every stage would run")
        return
    refresh(config.run_folder)
    context = RunContext(config)
    copy, whole = context.data_copy, config.dataset.name in LOOKS_AT_FRAMES
    if copy is not None and (size := copy.index_to_fetch(whole)) > MOST_BYTES:
        say(console, f"{copy.url}: {in_bytes(size)} would be downloaded; then the run is planned")
        return
    plan = context.make_plan(retry_skipped, scope, remember=False)
    check_before_start(context, plan)
    ledger = Ledger(config.run_folder)
    costs = [
        *work_lines(context.config, plan, context.reader(), price),
        disk_by_stage(plan, ledger),
        disk_in_the_end(plan, ledger),
        disk_forecast(plan, ledger, config.run_folder),
    ]
    places = [store_line(config.run_folder), *data_lines(context, plan)]
    for line in filter(None, [*places, *selection_lines(plan), *plan_lines(plan), *costs]):
        say(console, line)


def data_lines(context: RunContext, plan: Plan) -> list[str]:
    """Returns what a run would download of a data set in an object store, and what was not compared
    for that reason."""
    copy, reader = context.data_copy, context.reader()
    if copy is None:
        return []
    due = dict.fromkeys(video for job in plan.pending() for video in job.shard.videos)
    size = 0
    for video in due:
        with suppress(InputError):
            sources = reader.sources(video)
            size += copy.to_fetch((*sources.frames, *sources.truth))
    more = f"; {in_bytes(size)} would be downloaded" if size else ""
    lines = [f"The data set is at {copy.url}; its local copy is {copy.folder}{more}."]
    if unknown := len(context.source_digests(remember=False).unknown):
        lines.append(
            f"{unknown} videos were never compared on this machine; they are taken as unchanged,"
            " because a dry run does not download them"
        )
    return lines


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
