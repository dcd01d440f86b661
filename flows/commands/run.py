"""``pseudolabels run``: open a run, do what is pending, show the results."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from flows.commands.terminal import show_outcome, show_plan, show_results
from flows.console import say
from flows.context import Parts, RunContext
from flows.labelling.opened_run import WARNING, do_stage_again, opened_run
from flows.labelling.preflight import check_device
from flows.orchestration.ray.ray_cluster import check_runner
from flows.orchestration.servers.observed import prefect_server
from flows.outcome import RunOutcome, read_outcome
from flows.planning.plan import Plan
from flows.planning.stage_selection import Scope
from flows.progress import reporter
from pipeline.config import RunConfig
from pipeline.store_urls import shown
from storage.run.ledger import Ledger


def run_all(
    config: RunConfig,
    console: Console,
    retry_skipped: bool = False,
    parts: Parts | None = None,
    scope: Scope | None = None,
    forget_missing: bool = False,
    committed: Callable[[], None] = lambda: None,
    ended: Callable[[RunOutcome], None] = lambda outcome: None,
    preset: str | None = None,
) -> Plan:
    """Does everything of a run that is not done, and shows the results.

    Args:
        config: resolved.
        console: for progress and results.
        retry_skipped: try skipped videos again.
        parts: the models and functions of the stages; None for the real ones.
        scope: stages to do, and stages to do again; None for all.
        forget_missing: remove the results of videos that the data set no longer has.
        committed: called when the work begins. Stages to do again have lost their receipts then.
        ended: called with what came of the run, if it has masks to look at.
        preset: name of the preset that the configuration started from, if there is one.

    Returns:
        The plan at the start of the run.

    Raises:
        PseudoLabelError: the run cannot start, or too many shards failed.
    """
    check_runner(config)
    with opened_run(
        config,
        lambda line: say(console, line, "bold red" if line.startswith(WARNING) else ""),
        retry_skipped=retry_skipped,
        parts=parts,
        scope=scope,
        forget_missing=forget_missing,
    ) as context:
        committed()
        context.preset = preset
        pending = context.the_plan.pending()
        outcome = None
        if pending:
            outcome = _run_flow(context, console)
        else:
            say(console, f"Everything in {shown(config.run_folder)} is done.")
    # Reading every quality table takes seconds. A run with nothing to do has said it before.
    is_told = "rank" in context.the_plan.stages and bool(pending or config.dataset.only_videos)
    if is_told:
        outcome = outcome or read_outcome(config, config.dataset.only_videos or None)
        show_outcome(console, outcome, config)
        ended(outcome)
    plan = context.make_plan() if pending else context.the_plan
    show_plan(console, plan, config.run_folder, skipped_too=not is_told)
    show_results(console, config.run_folder)
    return context.the_plan


def check_new_run(config: RunConfig) -> None:
    """Checks the device of a run that has not begun, before anything is rendered or downloaded.

    Raises:
        ConfigError: the machine has no such device.
    """
    if not Ledger(config.run_folder).folder.is_dir():
        check_device(RunContext(config))


def write_report_again(config: RunConfig, console: Console) -> None:
    """Writes the report of a run again, from what the run has."""
    with reporter(console) as progress:
        do_stage_again(config, "report", progress)


def _run_flow(context: RunContext, console: Console) -> RunOutcome | None:
    """Does what is pending. Returns what came of it, if it was read to be shown in Prefect."""
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
    return summary.outcome
