"""The Prefect flow: a task run for every (stage, shard), named so; the ledger decides what is
done, Prefect observes and retries. Where its server is lost, the same work goes on without it.

Arguments are names, paths and digests. A process holds one model: shards of a stage go one after
the other, or to the workers of ``ray_cluster.py``, so a model is loaded once and freed before the
next stage.
"""

from __future__ import annotations

import errno
import logging
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal

from flows.context import Workshop, workshop_of
from flows.labelling.run_stages import finish_stage, finished_shards, sample_markdown
from flows.labelling.shard_stages import do_shard
from flows.orchestration import artifacts, signals
from flows.orchestration.connection import LOST, Observer, is_lost
from flows.planning.plan import Job, Plan, Shard, still_holds
from flows.planning.products import inputs_now
from flows.planning.receipts import note_failure
from flows.planning.run_paths import ALL, RUN_STAGES, SHARD_STAGES, STAGES, RunPaths
from pipeline.errors import (
    CheckpointError,
    ConfigError,
    EndpointError,
    LockLostError,
    ModelError,
    NoRoomError,
    PseudoLabelError,
    UnknownDatasetError,
)
from pipeline.types import Receipt
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)

FATAL = (
    CheckpointError,
    ConfigError,
    EndpointError,
    LockLostError,
    ModelError,
    NoRoomError,
    UnknownDatasetError,
)
"""What the next shard would meet as well."""

_PASSING = frozenset(
    {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
)


class RunFailedError(PseudoLabelError):
    """More of the run failed than ``maximum_failed_share`` allows; what is done stays done."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        failed: (stage, shard) -> the error, in words.
        flow_run: id of the Prefect flow run.
    """

    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    flow_run: str = ""


def can_pass(task: Any, run: Any, state: State[Any]) -> bool:
    """Whether the same work may succeed the next time: a lost connection, a disk that stalls.

    Input that is at fault, a full disk or a bug stay what they are.
    """
    return _passes(state.result(raise_on_failure=False))


def _passes(error: object) -> bool:
    if isinstance(error, PseudoLabelError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING


@task(
    persist_result=False,
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=can_pass,
)
def shard_task(
    stage: str,
    shard: str,
    videos: tuple[str, ...],
    run_folder: str,
    fingerprint: str,
    basis: Mapping[str, Any],
) -> None:
    """One stage on one shard; what came of it is in its receipt."""
    job = Job(stage, Shard(shard, tuple(videos)), fingerprint, basis=basis)
    do_shard(workshop_of(Path(run_folder)), job)


@task(
    persist_result=False,
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=5,
    retry_condition_fn=can_pass,
)
def run_task(stage: str, run_folder: str, fingerprint: str) -> None:
    """One stage on the whole run."""
    finish_stage(workshop_of(Path(run_folder)), stage, fingerprint)


@flow(name="pseudolabels", persist_result=False, log_prints=False, validate_parameters=False)
def pseudolabels(run_folder: str, plan_digest: str) -> Summary:
    """Does what the plan of an open workshop has pending.

    Args:
        run_folder: of a workshop that is open in this process, with a plan.
        plan_digest: names the plan, for the UI.

    Raises:
        RunFailedError: too large a share of the shards failed, or a stage of the whole run did.
    """
    shop = workshop_of(Path(run_folder))
    observer: Observer = shop.observer
    # Prefect's own handler of SIGTERM takes the flow for cancelled and tells nobody how to go on.
    signals.install_handlers()
    try:
        summary = all_stages(shop, observer)
    except BaseException as error:
        # Prefect may fail to write down how the flow ended, and raise that in its place.
        observer.outcome = error
        raise
    observer.outcome = summary
    return summary


def run_observed(shop: Workshop, api: str, plan_digest: str) -> Summary:
    """Runs the flow; where Prefect cannot be told how it begins or ends, what is pending is done
    without it.

    Args:
        shop: open in this process, with a plan.
        api: of the Prefect server.
        plan_digest: names the plan, for the UI.

    Raises:
        RunFailedError: as the flow.
    """
    observer = shop.observer = Observer(api, shop.progress.say)
    folder = shop.config.run_folder
    if not observer.present():
        return all_stages(shop, observer)
    try:
        with _task_runner(shop) as runner:
            summary: Summary = pseudolabels.with_options(
                flow_run_name=folder.name, task_runner=runner
            )(str(folder), plan_digest)
        return summary
    except TerminationSignal as error:
        raise signals.Stopped(signal.SIGTERM) from error
    except (*LOST, RuntimeError) as error:
        if not is_lost(error):
            raise
        logger.warning("the Prefect server was lost: %s", error)
        if isinstance(observer.outcome, BaseException):
            raise observer.outcome from error
        if isinstance(observer.outcome, Summary):
            return observer.outcome
        observer.give_up()
        return all_stages(shop, observer)


@contextmanager
def _task_runner(shop: Workshop) -> Iterator[Any]:
    """What hands out the flow's tasks: None for Prefect's own, or a Ray cluster as long as the
    block lasts."""
    if shop.config.runner.kind == "local":
        yield None
        return
    from flows.orchestration.ray_cluster import ray_cluster

    with ray_cluster(shop.config):
        from prefect_ray import RayTaskRunner

        yield RayTaskRunner()


def all_stages(shop: Workshop, observer: Observer) -> Summary:
    """All stages of a plan, as task runs of the flow around it while there is a server, and
    plainly where there is none.

    Raises:
        RunFailedError: as the flow.
    """
    assert shop.plan is not None, "a run needs a plan"
    run = _Run(shop, shop.plan, observer)
    for stage in SHARD_STAGES:
        if stage in shop.plan.stages:
            run.shard_stage(stage)
    run.check_share()
    for stage in RUN_STAGES:
        if stage in shop.plan.stages:
            run.run_stage(stage)
    run.publish()
    run.check_run_stages()
    return run.summary


class _Run:
    """One pass over a plan."""

    def __init__(self, shop: Workshop, plan: Plan, observer: Observer) -> None:
        self._shop, self._plan, self._observer = shop, plan, observer
        self._paths = RunPaths(shop.config.run_folder)
        self._name = self._paths.folder.name
        self._states: dict[tuple[str, str], State[Any]] = {}
        self.summary = Summary(flow_run=_flow_run_id())

    def shard_stage(self, stage: str) -> None:
        """Does the pending shards of a stage; one that failed in an earlier stage waits."""
        jobs = self._plan.jobs[stage]
        failed_before = {shard for _, shard in self.summary.failed}
        left = [job for job in jobs if not job.done and job.shard.name not in failed_before]
        todo = [job for job in left if not self._holds(job, ())]
        total = _videos(jobs)
        done = _videos(job for job in jobs if job.done) + _videos(left) - _videos(todo)
        self._shop.progress.begin(stage, total, "videos")
        self._shop.progress.done_before(done)
        shown = None
        if todo:
            shown = self._observer.tell(
                lambda: artifacts.StageProgress(self._name, stage, total, done)
            )
        for job, error in self._shards_ended(todo):
            if self._went_well(job, error):
                self._tell_set_aside(job)
                self._advance(shown, job)
        self._shop.release()
        self._shop.progress.end("" if todo else "done before")

    def _advance(self, shown: artifacts.StageProgress | None, job: Job) -> None:
        if shown is not None:
            self._observer.tell(lambda: shown.advance(len(job.shard.videos)))

    def _tell_set_aside(self, job: Job) -> None:
        receipt = Ledger(self._paths.folder).receipt(job.stage, job.shard.name)
        for video, reason in (receipt.set_aside if receipt else {}).items():
            self._shop.progress.say(f"set aside {video}: {reason}", "yellow")

    def run_stage(self, stage: str) -> None:
        """Does a stage of the whole run if it is pending and the one before it did not fail."""
        jobs = self._plan.jobs.get(stage, ())
        if not jobs or (jobs[0].done and not self.summary.failed):
            return
        [job] = jobs
        if any(failed in RUN_STAGES and failed != "student" for failed, _ in self.summary.failed):
            return
        if not self.summary.failed and self._holds(job, finished_shards(self._shop)):
            return
        fingerprint = job.fingerprint
        if self.summary.failed:
            # What lacks shards must be done again once they are there.
            fingerprint = f"partial-{fingerprint}"
        arguments = (stage, str(self._paths.folder), fingerprint)
        self._went_well(job, self._do(run_task, job, arguments))

    def _holds(self, job: Job, shards: Sequence[str]) -> bool:
        """Whether a job that waited for what it was made from need not be done after all."""
        if job.state != "waits":
            return False
        planned = [stage for stage in STAGES if self._plan.jobs.get(stage)]
        ledger = Ledger(self._paths.folder)
        return still_holds(job, inputs_now(ledger, job.stage, job.shard.name, planned, shards))

    def check_share(self) -> None:
        """Raises RunFailedError where too many shards failed."""
        failed = {shard for stage, shard in self.summary.failed if stage in SHARD_STAGES}
        share = len(failed) / max(1, len(self._plan.shards))
        if failed and share > self._shop.config.maximum_failed_share:
            raise RunFailedError(
                f"{len(failed)} of {len(self._plan.shards)} shards failed:\n{self._failures()}"
            )

    def check_run_stages(self) -> None:
        """Raises RunFailedError where a stage of the whole run failed."""
        if any(stage in RUN_STAGES for stage, _ in self.summary.failed):
            raise RunFailedError(self._failures())

    def publish(self) -> None:
        """Puts figures, samples and the report's address into the UI."""
        ledger = Ledger(self._paths.folder)
        names: Mapping[str, list[str]] = {
            stage: [job.shard.name for job in self._plan.jobs.get(stage, ())] for stage in STAGES
        }
        receipts = [
            receipt
            for stage in STAGES
            for name in names[stage]
            if (receipt := ledger.receipt(stage, name)) is not None
        ]
        tell = self._observer.tell
        tell(lambda: artifacts.stage_table(receipts, self._name))
        page = sample_markdown(self._shop)
        if page:
            tell(lambda: artifacts.samples_page(page, self._name))
        if self._paths.report.exists():
            tell(lambda: artifacts.report_link(self._paths.report, self._name))

    def _shards_ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """Does jobs of one stage; gives each as it ends, with None or its error."""
        if self._shop.config.runner.kind == "local" or not self._observer.present():
            for job in jobs:
                yield job, self._do(shard_task, job, self._shard_arguments(job))
            return
        from flows.orchestration.ray_cluster import WorkerLostError, each_ended

        def submit(job: Job) -> Any:
            work: Any = shard_task.with_options(name=job.stage, task_run_name=job.name)
            return work.submit(*self._shard_arguments(job), wait_for=self._before(job))

        for job, state in each_ended(jobs, submit, self._shop.config, self._shop.progress.say):
            if isinstance(state, WorkerLostError):
                asked = Receipt(
                    job.stage,
                    job.shard.name,
                    job.fingerprint,
                    job.shard.videos,
                    basis=dict(job.basis),
                )
                note_failure(Ledger(self._paths.folder), asked, state)
                yield job, state
                continue
            error = self._noted(job, state)
            if isinstance(error, LOST):
                # The worker could not tell Prefect; the ledger knows whether the work was done.
                done = Ledger(self._paths.folder).is_done(
                    job.stage, job.shard.name, job.fingerprint
                )
                error = None if done else self._do(shard_task, job, self._shard_arguments(job))
            yield job, error

    def _shard_arguments(self, job: Job) -> tuple[Any, ...]:
        folder, shard = str(self._paths.folder), job.shard
        return job.stage, shard.name, shard.videos, folder, job.fingerprint, job.basis

    def _do(self, work: Any, job: Job, arguments: tuple[Any, ...]) -> Any:
        """Does a job in this process; None, or its error."""
        if not self._observer.present():
            return _plainly(work, arguments)
        return self._as_task(work, job, arguments)

    def _went_well(self, job: Job, error: Any) -> bool:
        """Whether a job was done; why not goes into the summary."""
        if error is None:
            return True
        if isinstance(error, FATAL):
            raise error
        self.summary.failed[job.stage, job.shard.name] = _in_words(error)
        self._shop.progress.say(f"{job.name} failed: {_in_words(error)}", "red")
        return False

    def _as_task(self, work: Any, job: Job, arguments: tuple[Any, ...]) -> Any:
        """None, or the error that the task run ended with."""
        state: State[Any] = work.with_options(name=job.stage, task_run_name=job.name)(
            *arguments, return_state=True, wait_for=self._before(job)
        )
        return self._noted(job, state)

    def _noted(self, job: Job, state: State[Any]) -> Any:
        """None for a job that completed, which later ones follow; else its error."""
        if state.is_completed():
            self._states[job.stage, job.shard.name] = state
            return None
        return state.result(raise_on_failure=False)

    def _before(self, job: Job) -> list[State[Any]]:
        """States that the job follows; they make the edges of the run graph."""
        place = STAGES.index(job.stage)
        if job.stage in SHARD_STAGES:
            earlier = [self._states.get((stage, job.shard.name)) for stage in STAGES[:place]]
            found = [state for state in earlier if state is not None]
            return found[-1:]
        for stage in reversed(STAGES[:place]):
            found = [state for (name, _), state in self._states.items() if name == stage]
            if found:
                return found
        return []

    def _failures(self) -> str:
        return "\n".join(
            f"  {stage} {'' if shard == ALL else shard}: {error}"
            for (stage, shard), error in self.summary.failed.items()
        )


def _plainly(work: Any, arguments: tuple[Any, ...]) -> Exception | None:
    """Does a task's work without Prefect, tried again as the task would be; None, or its error."""
    given = work.retry_delay_seconds
    delays = given if isinstance(given, list) else [given]
    for attempt in range(work.retries + 1):
        try:
            work.fn(*arguments)
            return None
        except Exception as error:  # noqa: BLE001 - every error of a shard goes into the summary
            if attempt == work.retries or not _passes(error):
                return error
            time.sleep(delays[min(attempt, len(delays) - 1)])
    return None


def _videos(jobs: Iterable[Job]) -> int:
    return sum(len(job.shard.videos) for job in jobs)


def _in_words(error: Any) -> str:
    """An error for the terminal; one of ours says all in its message."""
    if isinstance(error, PseudoLabelError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _flow_run_id() -> str:
    context = FlowRunContext.get()
    return "" if context is None or context.flow_run is None else str(context.flow_run.id)
