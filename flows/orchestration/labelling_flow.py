"""The Prefect flow ``pseudolabels``: one task run per (stage, shard).

The ledger decides what is done; Prefect shows it. A task run calls the same function as a run
without Prefect, and retries are in that function. If the server is lost, the run continues without
it.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal

from flows.context import RunContext
from flows.labelling.executor import InProcess, Summary, execute
from flows.labelling.jobs import attempt, do_job
from flows.labelling.opened_run import opened_run
from flows.orchestration import artifacts, signals
from flows.orchestration.connection import LOST, Connection, is_lost
from flows.planning.plan import Job
from flows.planning.run_paths import RunPaths
from flows.planning.stage_selection import scope_of
from flows.planning.stages import SHARD_STAGES, STAGES
from pipeline.config import load_config
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)

UNCACHED: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}
"""The ledger decides what is done, so Prefect keeps no results."""


class PrefectTasks:
    """A launcher that runs each job in this process, as a task run of the current flow.

    Args:
        context: of the run.
        connection: to the Prefect server.
    """

    def __init__(self, context: RunContext, connection: Connection) -> None:
        self._context, self._connection = context, connection
        self._name = context.config.run_folder.name
        self._states: dict[tuple[str, str], State[Any]] = {}
        self._shown: artifacts.StageProgress | None = None
        context.publish = self._publish

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        for job in jobs:
            yield job, self._done_here(job)

    def stage_begins(self, stage: str, videos: int, done: int) -> None:
        self._shown = self._connection.tell(
            lambda: artifacts.StageProgress(self._name, stage, videos, done)
        )

    def videos_done(self, count: int) -> None:
        shown = self._shown
        if shown is not None:
            self._connection.tell(lambda: shown.advance(count))

    def run_ends(self) -> None:
        """Shows the stage table, samples and the report's address."""
        from flows.report.samples import markdown_page

        tell, paths = self._connection.tell, self._context.paths
        ledger, jobs = Ledger(paths.folder), self._context.the_plan.jobs
        receipts = [
            receipt
            for stage in STAGES
            for job in jobs.get(stage, ())
            if (receipt := ledger.receipt(stage, job.shard.name)) is not None
        ]
        tell(lambda: artifacts.stage_table(receipts, self._name))
        if page := markdown_page(self._context):
            tell(lambda: artifacts.samples_page(page, self._name))
        if paths.report.exists():
            tell(lambda: artifacts.report_link(paths.report, self._name))

    def _publish(self, name: str, markdown: str) -> None:
        self._connection.tell(lambda: artifacts.curves_page(markdown, name))

    def _done_here(self, job: Job) -> Exception | None:
        if not self._connection.present():
            return attempt(job, self._context)

        @task(name=job.stage, task_run_name=job.name, **UNCACHED)
        def work() -> None:
            do_job(job, self._context)

        return self._noted(job, work(return_state=True, wait_for=self._before(job)))

    def _noted(self, job: Job, state: State[Any]) -> Exception | None:
        """None for a job that completed, else its error."""
        if state.is_completed():
            self._states[job.stage, job.shard.name] = state
            return None
        error = state.result(raise_on_failure=False)
        return error if isinstance(error, Exception) else RuntimeError(state.message)

    def _before(self, job: Job) -> list[State[Any]]:
        """States that the job follows. They make the edges of the run graph."""
        place = STAGES.index(job.stage)
        if job.stage in SHARD_STAGES:
            earlier = [self._states.get((stage, job.shard.name)) for stage in STAGES[:place]]
            return [state for state in earlier if state is not None][-1:]
        for stage in reversed(STAGES[:place]):
            found = [state for (name, _), state in self._states.items() if name == stage]
            if found:
                return found
        return []


@flow(name="pseudolabels", persist_result=False, log_prints=False)
def pseudolabels(
    dataset: str = "shapes",
    root: str | None = None,
    split: str = "train",
    out: str = "runs",
    config: str | None = None,
    overrides: list[str] | None = None,
    from_stage: str | None = None,
    to_stage: str | None = None,
) -> dict[str, str]:
    """Makes the pseudo-masks of a data set. Finished work is kept.

    Args:
        dataset: name of the data set, such as ``refytvos``.
        root: folder of the data set.
        split: split to label.
        out: folder of all runs.
        config: TOML file with settings; None for the demo models.
        overrides: settings, such as ``rank.threshold=0.4``.
        from_stage: run this stage and the following ones again.
        to_stage: stop after this stage.

    Returns:
        ``<stage> <shard>`` -> error, for failures that ``maximum_failed_share`` allows.

    Raises:
        PseudoLabelError: the run cannot start, or too many shards failed.
    """
    # Prefect sends a flow's function by value to Ray's workers, so it holds nothing but this call.
    return _label(dataset, root, split, out, config, overrides or (), from_stage, to_stage)


def _label(
    dataset: str,
    root: str | None,
    split: str,
    out: str,
    config: str | None,
    overrides: Sequence[str],
    from_stage: str | None,
    to_stage: str | None,
) -> dict[str, str]:
    given = _given.get()
    if given is not None:
        return _failures(given.run())
    described = {"dataset.name": dataset, "dataset.split": split, "out": out}
    if root is not None:
        described["dataset.root"] = root
    words = [f"{name}={_quoted(value)}" for name, value in described.items()]
    resolved = load_config(Path(config) if config else None, [*words, *overrides])
    say = logger.info
    with opened_run(resolved, say, scope=scope_of(resolved, from_stage, to_stage)) as context:
        if not context.the_plan.pending():
            return {}
        return _failures(_execute(context, Connection.of_settings(say)))


@dataclass
class _Given:
    """A run that this process has open, and what the flow over it came to.

    Prefect may fail to write down how a flow ended, and raise that in place of how it ended.
    """

    context: RunContext
    connection: Connection
    ended: Summary | BaseException | None = None

    def run(self) -> Summary:
        # Prefect's own handler of SIGTERM takes the flow for cancelled and tells nobody how to
        # go on.
        signals.install_handlers()
        try:
            self.ended = _execute(self.context, self.connection)
        except BaseException as error:
            self.ended = error
            raise
        return self.ended


_given: ContextVar[_Given | None] = ContextVar("_given", default=None)
"""The open run for the flow that this context calls. A flow of its own opens one by itself."""


def run_with_prefect(context: RunContext, api: str) -> Summary:
    """Runs the pending jobs as a run of the flow :func:`pseudolabels`.

    If the server cannot be reached at the start or the end, the work is done without it.

    Args:
        context: of an open run, with a plan.
        api: address of the Prefect server's API.

    Raises:
        RunFailedError: as :func:`flows.labelling.executor.execute`.
    """
    given = _Given(context, Connection(api, context.progress.say))
    dataset, paths = context.config.dataset, RunPaths(context.config.run_folder)
    if not given.connection.present():
        return execute(context, InProcess(context))
    token = _given.set(given)
    try:
        pseudolabels.with_options(flow_run_name=paths.folder.name)(
            dataset=dataset.name,
            root=None if dataset.root is None else str(dataset.root),
            split=dataset.split,
            out=str(context.config.out),
            config=str(paths.config),
            to_stage=context.the_plan.stages[-1],
        )
    except TerminationSignal as error:
        raise signals.Stopped(signal.SIGTERM) from error
    except (*LOST, RuntimeError) as error:
        if not is_lost(error):
            raise
        logger.warning("the Prefect server was lost: %s", error)
        if given.ended is None:
            given.connection.give_up()
            return execute(context, InProcess(context))
    finally:
        _given.reset(token)
    assert given.ended is not None, "the flow has ended"
    if isinstance(given.ended, BaseException):
        raise given.ended
    return given.ended


def _execute(context: RunContext, connection: Connection) -> Summary:
    with _launcher(context, connection) as launcher:
        return execute(context, launcher)


@contextmanager
def _launcher(context: RunContext, connection: Connection) -> Iterator[PrefectTasks]:
    """What does the jobs: this process, or a Ray cluster for as long as the block lasts."""
    if context.config.runner.kind == "local":
        yield PrefectTasks(context, connection)
        return
    from flows.orchestration.ray_cluster import ray_cluster

    with ray_cluster(context.config):
        # Ray may be imported only now.
        from prefect_ray import RayTaskRunner

        from flows.orchestration.ray_tasks import RayTasks

        with RayTaskRunner() as runner:
            yield RayTasks(context, connection, runner)


def _failures(summary: Summary) -> dict[str, str]:
    return {f"{stage} {shard}": error for (stage, shard), error in summary.failed.items()}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
