"""The work of a Ray worker: a group of shards of one stage, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from flows.context import RunContext
from flows.labelling.executor import FATAL
from flows.labelling.jobs import do_job
from flows.orchestration.limits import Limits
from flows.orchestration.servers.connection import LOST
from flows.planning.mirrored import refresh
from flows.planning.plan import Job
from flows.planning.run_paths import RunPaths
from flows.planning.shards import Shard
from pipeline.config import load_config
from pipeline.errors import PseudoLabelError
from pipeline.store_urls import local_place
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)


class GroupFailedError(PseudoLabelError):
    """Some of the shards of a task run failed. The ledger has a note of each."""


def job_as_sent(job: Job) -> dict[str, Any]:
    """Returns what a worker needs of a job."""
    return {
        "stage": job.stage,
        "shard": job.shard.name,
        "videos": job.shard.videos,
        "fingerprint": job.fingerprint,
        "basis": dict(job.basis),
    }


def do_group(jobs: Sequence[Mapping[str, Any]], run_folder: str) -> None:
    """Does jobs of one stage. Those of several that have a receipt are done: an earlier worker,
    which was lost, did them.

    Args:
        run_folder: folder of the run, or its address in an object store.

    Raises:
        GroupFailedError: some of several jobs failed.
        Exception: the error of a single job, or one that every further shard would raise.
    """
    context, ledger = _shop_of(run_folder), Ledger(local_place(run_folder))
    failed: list[Exception] = []
    for sent in jobs:
        shard = Shard(sent["shard"], tuple(sent["videos"]))
        job = Job(sent["stage"], shard, sent["fingerprint"], basis=sent["basis"])
        if len(jobs) > 1 and ledger.is_done(job.stage, shard.name, job.fingerprint):
            continue
        try:
            with _limits_of(run_folder, job.stage).slot(job.stage):
                do_job(job, context)
        except FATAL:
            raise
        except Exception as error:
            if len(jobs) == 1:
                raise
            logger.exception("%s failed", job.name)
            failed.append(error)
    if failed:
        raise GroupFailedError(
            f"{len(failed)} of {len(jobs)} shards failed, the first: {failed[0]}"
        ) from failed[0]


@lru_cache(maxsize=1)
def _shop_of(run_folder: str) -> RunContext:
    """Returns the run in a worker. It is kept between shards, so that a model is loaded once."""
    folder = local_place(run_folder)
    refresh(folder)
    return RunContext(load_config(RunPaths(folder).config))


@lru_cache(maxsize=32)
def _limits_of(run_folder: str, stage: str) -> Limits:
    """Returns the limits of this machine that a stage falls under."""
    config = _shop_of(run_folder).config
    runner = config.runner.model_copy(update={"kind": "local"})
    try:
        return Limits.of(config.model_copy(update={"runner": runner}), {stage})
    except LOST as error:
        logger.warning("%s: the Prefect server names no limits (%s)", stage, error)
        return Limits({})
