"""Runs shards on the workers of a Ray cluster, as Prefect task runs, through prefect-ray.

A worker holds one shard and one stage's model at a time, reads the run's ``config.toml`` and
commits to the same ledger. So every machine of the cluster must see the data set under the same
path, and the run's folder too, unless the run is in an object store. Ray takes shards from one
queue. If a worker dies, another does its shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from prefect import task
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options

from flows.context import RunContext
from flows.labelling.jobs import attempt
from flows.orchestration.prefect_tasks import UNCACHED, PrefectTasks
from flows.orchestration.ray.ray_cluster import check_reach, cluster_gives_gpus
from flows.orchestration.ray.ray_training import train_in_run
from flows.orchestration.ray.worker import GroupFailedError, do_group, job_as_sent
from flows.orchestration.servers.connection import LOST, Connection
from flows.orchestration.task_groups import groups_of, name_of
from flows.planning.mirrored import refresh_notes
from flows.planning.plan import Job
from flows.planning.receipts import note_failure
from flows.planning.stages import SHARD_STAGES
from pipeline.errors import PseudoLabelError
from pipeline.store_urls import shown, url_of
from storage.run.ledger import Ledger

LOST_WORKERS = 3
"""A shard that takes so many workers down with it fails."""


class WorkerLostError(PseudoLabelError):
    """Every worker that tried a shard died."""


@task(**UNCACHED)
def _on_worker(jobs: Sequence[Mapping[str, Any]], run_folder: str) -> None:
    do_group(jobs, run_folder)


class RayTasks(PrefectTasks):
    """A launcher that gives shards to the workers of the Ray cluster that this process has joined.

    Stages of the whole run are done in this process, but for the training of the student. That is
    done here too if the run is in an object store and the cluster is of other machines.

    Args:
        runner: started.
    """

    def __init__(self, context: RunContext, connection: Connection, runner: RayTaskRunner) -> None:
        super().__init__(context, connection)
        self._runner = runner
        # A training on other machines needs the run's folder.
        if context.config.runner.address is None or url_of(context.paths.folder) is None:
            context.train_elsewhere = partial(train_in_run, context)

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        here = not jobs or jobs[0].stage not in SHARD_STAGES or not self._connection.present()
        yield from super().ended(jobs) if here else self._ended_elsewhere(jobs)

    def _ended_elsewhere(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        config, ledger = self._context.config, Ledger(self._context.config.run_folder)
        gpu = cluster_gives_gpus(config)
        waiting: dict[Any, tuple[tuple[Job, ...], Any, int]] = {}

        def start(group: tuple[Job, ...], lost: int) -> None:
            # Ray's own retries would continue a task run that Prefect regards as running.
            with remote_options(num_cpus=1, num_gpus=int(gpu), max_retries=0):
                future = self._submit(group)
            waiting[future.wrapped_future] = (group, future, lost)

        for group in groups_of(jobs):
            for job in group if len(group) > 1 else ():
                # A receipt then says that a worker has done the shard, if it is lost with others.
                ledger.withdraw(job.stage, job.shard.name)
            start(group, lost=0)
        while waiting:
            [ended], _ = ray.wait(list(waiting), num_returns=1)
            group, future, lost = waiting.pop(ended)
            future.wait()
            for job in group:
                # The worker may have a copy of the run's store of its own.
                refresh_notes(ledger.folder.parent, [job.stage], job.shard.name)
            if not future.state.is_crashed():
                for job in group:
                    yield job, self._error_of(job, future.state, alone=len(group) == 1)
                continue
            # A machine may have joined since the run began.
            check_reach(config, self._connection)
            if lost + 1 == LOST_WORKERS:
                yield from self._given_up(group, ledger)
            else:
                name = name_of(group)
                self._context.progress.say(f"{name}: its worker was lost; another does it")
                start(group, lost + 1)

    def _given_up(
        self, group: Sequence[Job], ledger: Ledger
    ) -> Iterator[tuple[Job, Exception | None]]:
        """Yields the jobs of a group that took all workers down, with an error where not done."""
        error = WorkerLostError(
            f"{name_of(group)}: {LOST_WORKERS} workers died of it; expected one to end it; look"
            " at their memory and at Ray's logs, and try fewer --workers or smaller batches"
        )
        for job in group:
            done = len(group) > 1 and ledger.is_done(job.stage, job.shard.name, job.fingerprint)
            if not done:
                note_failure(ledger, job, error)
            yield job, None if done else error

    def _submit(self, group: Sequence[Job]) -> Any:
        parameters = {
            "jobs": [job_as_sent(job) for job in group],
            "run_folder": shown(self._context.config.run_folder),
        }
        work = _on_worker.with_options(name=group[0].stage, task_run_name=name_of(group))
        return self._runner.submit(work, parameters, wait_for=self._before(group))

    def _error_of(self, job: Job, state: Any, alone: bool) -> Exception | None:
        """Returns the error of a job, unless its worker only failed to tell Prefect that it was
        done."""
        ledger = Ledger(self._context.config.run_folder)
        done = ledger.is_done(job.stage, job.shard.name, job.fingerprint)
        error = self._noted(job, state, done=done and not alone)
        if isinstance(error, LOST):
            return None if done else attempt(job, self._context)
        if isinstance(error, GroupFailedError):
            note = ledger.failure(job.stage, job.shard.name)
            return error if note is None else GroupFailedError(note.error)
        return error
