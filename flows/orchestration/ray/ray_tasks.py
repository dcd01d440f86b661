"""Runs shards on the workers of a Ray cluster, as Prefect task runs, through prefect-ray.

A worker holds one shard and one stage's model at a time, reads the run's ``config.toml`` and
commits to the same ledger. So every machine of the cluster must see the run's folder and the data
set under the same path. Ray takes shards from one queue. If a worker dies, another does its shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray
from prefect import task
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options

from flows.context import RunContext
from flows.labelling.jobs import attempt, do_job
from flows.orchestration.prefect_tasks import UNCACHED, PrefectTasks
from flows.orchestration.ray.ray_cluster import cluster_gives_gpus
from flows.orchestration.servers.connection import LOST, Connection
from flows.planning.plan import Job
from flows.planning.receipts import note_failure
from flows.planning.run_paths import RunPaths
from flows.planning.shards import Shard
from flows.planning.stages import SHARD_STAGES
from pipeline.config import load_config
from pipeline.errors import PseudoLabelError
from storage.run.ledger import Ledger

LOST_WORKERS = 3
"""A shard that takes so many workers down with it fails."""


class WorkerLostError(PseudoLabelError):
    """Every worker that tried a shard died."""


@lru_cache(maxsize=1)
def _shop_of(run_folder: str) -> RunContext:
    """Returns the run in a worker. It is kept between shards, so that a model is loaded once."""
    return RunContext(load_config(RunPaths(Path(run_folder)).config))


@task(**UNCACHED)
def _on_worker(
    stage: str,
    shard: str,
    videos: tuple[str, ...],
    fingerprint: str,
    basis: Mapping[str, Any],
    run_folder: str,
) -> None:
    job = Job(stage, Shard(shard, tuple(videos)), fingerprint, basis=basis)
    do_job(job, _shop_of(run_folder))


class RayTasks(PrefectTasks):
    """A launcher that gives shards to the workers of the Ray cluster that this process has joined.

    Stages of the whole run are done in this process.

    Args:
        runner: started.
    """

    def __init__(self, context: RunContext, connection: Connection, runner: RayTaskRunner) -> None:
        super().__init__(context, connection)
        self._runner = runner

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        here = not jobs or jobs[0].stage not in SHARD_STAGES or not self._connection.present()
        yield from super().ended(jobs) if here else self._ended_elsewhere(jobs)

    def _ended_elsewhere(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        config = self._context.config
        gpu = cluster_gives_gpus(config)
        waiting: dict[Any, tuple[Job, Any, int]] = {}

        def start(job: Job, lost: int) -> None:
            # Ray's own retries would continue a task run that Prefect regards as running.
            with remote_options(num_cpus=1, num_gpus=int(gpu), max_retries=0):
                future = self._submit(job)
            waiting[future.wrapped_future] = (job, future, lost)

        for job in jobs:
            start(job, lost=0)
        while waiting:
            [ended], _ = ray.wait(list(waiting), num_returns=1)
            job, future, lost = waiting.pop(ended)
            future.wait()
            if not future.state.is_crashed():
                yield job, self._checked(job, self._noted(job, future.state))
            elif lost + 1 == LOST_WORKERS:
                error = WorkerLostError(
                    f"{job.name}: {LOST_WORKERS} workers died of it; expected one to end it; look"
                    " at their memory and at Ray's logs, and try fewer --workers or smaller batches"
                )
                note_failure(Ledger(config.run_folder), job, error)
                yield job, error
            else:
                self._context.progress.say(f"{job.name}: its worker was lost; another does it")
                start(job, lost + 1)

    def _submit(self, job: Job) -> Any:
        parameters = {
            "stage": job.stage,
            "shard": job.shard.name,
            "videos": job.shard.videos,
            "fingerprint": job.fingerprint,
            "basis": dict(job.basis),
            "run_folder": str(self._context.config.run_folder),
        }
        work = _on_worker.with_options(name=job.stage, task_run_name=job.name)
        return self._runner.submit(work, parameters, wait_for=self._before(job))

    def _checked(self, job: Job, error: Exception | None) -> Exception | None:
        """The error of a job, unless its worker only failed to tell Prefect that it was done."""
        if not isinstance(error, LOST):
            return error
        done = Ledger(self._context.config.run_folder).is_done(
            job.stage, job.shard.name, job.fingerprint
        )
        return None if done else attempt(job, self._context)
