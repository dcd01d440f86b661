"""``pseudolabels run``: opens a run, does what is pending, shows the results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rich.console import Console

from flows.commands.terminal import show_plan, show_results
from flows.console import say
from flows.context import Parts, RunContext
from flows.labelling.opened_run import do_stage_again, opened_run
from flows.orchestration.observed import prefect_server
from flows.orchestration.ray_cluster import check_runner
from flows.planning.plan import Plan
from flows.planning.stage_selection import Scope
from flows.progress import reporter
from pipeline.config import RunConfig


def run_all(
    config: RunConfig,
    console: Console,
    retry_skipped: bool = False,
    parts: Parts | None = None,
    scope: Scope | None = None,
    forget_missing: bool = False,
    committed: Callable[[], None] = lambda: None,
) -> Plan:
    """Does all of a run that is not done, and shows the results.

    Args:
        config: resolved.
        console: for progress and results.
        retry_skipped: try skipped videos again.
        parts: the stages' ways in; None for the real ones.
        scope: the stages to do, and those to do again; None for all.
        forget_missing: remove what was made of videos that the data set no longer has.
        committed: told once the work begins; stages to do again have no receipts by then.

    Returns:
        The plan that the run began with.

    Raises:
        PseudoLabelError: the run cannot start, or too much of it failed.
    """
    check_runner(config)
    with opened_run(
        config,
        partial(say, console),
        retry_skipped=retry_skipped,
        parts=parts,
        scope=scope,
        forget_missing=forget_missing,
    ) as context:
        committed()
        pending = context.the_plan.pending()
        if pending:
            _run_flow(context, console)
        else:
            say(console, f"Everything in {config.run_folder} is done.")
    show_plan(console, context.make_plan() if pending else context.the_plan, config.run_folder)
    show_results(console, config.run_folder)
    return context.the_plan


def write_report_again(config: RunConfig, console: Console) -> None:
    """Writes the report of a run from what the run has."""
    with reporter(console) as progress:
        do_stage_again(config, "report", progress)


def _run_flow(context: RunContext, console: Console) -> None:
    plan = context.the_plan

    def load_libraries() -> None:
        if any(plan.pending(stage) for stage in ("augment", "ground", "segment")):
            import torch  # noqa: F401

    with prefect_server(console, load_libraries) as api, reporter(console) as progress:
        from flows.orchestration.labelling_flow import run_with_prefect

        context.progress = progress
        summary = run_with_prefect(context, api)
    for (stage, shard), error in summary.failed.items():
        say(console, f"{stage} {shard}: {error}", "red", label="failed")
