"""Opens a run: takes its lock, prepares the data set, makes the plan and writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from flows.context import Parts, RunContext
from flows.dataset import dataset_root, prepare_dataset
from flows.integrity.leftovers import partials_of_run
from flows.labelling.jobs import do_job
from flows.labelling.preflight import check_before_start
from flows.labelling.release import release_finished
from flows.planning.commit import commit_plan
from flows.planning.disk_estimate import disk_forecast
from flows.planning.mirrored import refresh, store_line
from flows.planning.plan import Plan
from flows.planning.stage_selection import Scope
from flows.planning.stages import ALL
from flows.planning.stand_ins import REMEDY, stand_in_warning
from flows.progress import Reporter
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, PseudoLabelError
from storage.files.atomic import remove_partials
from storage.run.ledger import Ledger
from storage.run.lock import RunLock

Say = Callable[[str], None]

WARNING = "Warning:"
"""How a line begins that a terminal shows in red."""


@contextmanager
def opened_run(
    config: RunConfig,
    say: Say,
    *,
    retry_skipped: bool = False,
    parts: Parts | None = None,
    scope: Scope | None = None,
    forget_missing: bool = False,
) -> Iterator[RunContext]:
    """Opens a run under its lock, with a plan that has been written. Frees models at the end.

    Args:
        config: resolved configuration.
        say: prints a line.
        retry_skipped: try skipped videos again.
        parts: the models and functions of the stages; None for the real ones.
        scope: stages to do, and stages to do again; None for all.
        forget_missing: remove the results of videos that the data set no longer has.

    Raises:
        ConfigError: the data set has no videos, or has lost videos that have results.
        RunLockedError: another process works on the run.
    """
    context, scope = RunContext(config, parts or Parts()), scope or Scope()
    with RunLock(config.run_folder, say):
        refresh(config.run_folder, under_lock=True)
        if place := store_line(config.run_folder):
            say(place)
        prepare_dataset(config, say)
        remove_partials(partials_of_run(config.run_folder))
        context.plan = plan = context.make_plan(retry_skipped, scope)
        if not plan.videos:
            raise ConfigError(
                f"{dataset_root(config)}: split {config.dataset.split!r} holds no videos; give"
                " another --split or --root"
            )
        if plan.gone and not forget_missing:
            raise ConfigError(_what_is_gone(config, plan))
        check_before_start(context, plan)
        if warning := stand_in_warning(config):
            say(f"{WARNING} {warning} {REMEDY}")
        space = disk_forecast(plan, Ledger(config.run_folder), config.run_folder)
        for line in (*context.decisions.problems, *selection_lines(plan), *filter(None, [space])):
            say(line)
        commit_plan(context.config, plan, scope.again)
        try:
            yield context
            release_finished(context, say)
        finally:
            context.release()


def do_stage_again(
    config: RunConfig, stage: str, progress: Reporter, parts: Parts | None = None
) -> None:
    """Runs one stage of the whole run again, even if it is done.

    Raises:
        PseudoLabelError: the run has no masks yet.
    """
    context = RunContext(config, parts or Parts(), progress)
    with RunLock(config.run_folder):
        refresh(config.run_folder, under_lock=True)
        context.plan = plan = context.make_plan()
        if not any(Ledger(config.run_folder).each("rank")):
            raise PseudoLabelError(
                f"{config.run_folder}: no masks yet; expected a run; make it with"
                " `pseudolabels run`"
            )
        complete = all(job.done for name in ("rank", "merge") for job in plan.jobs[name])
        job = plan.job(stage, ALL)
        fingerprint = job.fingerprint if complete else f"partial-{job.fingerprint}"
        do_job(replace(job, fingerprint=fingerprint), context)


def selection_lines(plan: Plan) -> list[str]:
    """Returns lines about videos that are included without being asked for, or that are gone."""
    lines = []
    if plan.gone:
        words = "video is" if len(plan.gone) == 1 else "videos are"
        lines.append(
            f"{len(plan.gone)} {words} gone from the data set, such as {plan.gone[0]}:"
            " --forget-missing removes their results"
        )
    if plan.along:
        words = "video is" if plan.along == 1 else "videos are"
        lines.append(f"{plan.along} more {words} included, because shards are processed as a whole")
    return lines


def _what_is_gone(config: RunConfig, plan: Plan) -> str:
    first, others = plan.gone[0], len(plan.gone) - 1
    return (
        f"{dataset_root(config)}: split {config.dataset.split!r} has no video {first!r}"
        + f", nor {others} others" * bool(others)
        + f", of which {config.run_folder} holds work; expected every video that was labelled;"
        " check --root and that the data set is complete, give another --out, or add"
        " --forget-missing, which removes their results"
    )
