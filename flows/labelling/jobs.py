"""Runs one job of a plan, and tries again if the cause of a failure can pass."""

from __future__ import annotations

import contextvars
import errno
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from flows.context import RunContext
from flows.planning.mirrored import fetch_products, refresh_notes
from flows.planning.plan import Job
from flows.planning.reasons import SOURCES
from flows.planning.receipts import Outcome, note_failure, receipted
from flows.planning.sources import digest_of_sources
from flows.planning.stages import ALL, SHARD_STAGES, STAGE, STAGES, shard_stages_of
from pipeline.errors import PseudoLabelError, StoreError
from pipeline.types import Receipt
from storage.run.ledger import Ledger
from storage.run.lock import is_kept_up

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = (2, 20)
"""Waits before the second and the third attempt."""

_PASSING = frozenset(
    {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
)


class JobTimeoutError(PseudoLabelError):
    """A stage took longer for a shard than it may."""


def can_pass(error: BaseException) -> bool:
    """Whether the same work can succeed next time, as after a lost connection or a stalled disk.

    Wrong input, a full disk and bugs do not pass.
    """
    if isinstance(error, PseudoLabelError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _PASSING


def do_job(job: Job, context: RunContext) -> Receipt:
    """Runs one stage on one shard, or on the whole run, and commits its receipt last.

    Raises:
        Exception: the error of the last attempt. The ledger has a note of it and no receipt.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed

    waits = wait_chain(*(wait_fixed(seconds) for seconds in RETRY_SECONDS))
    attempts = Retrying(
        retry=retry_if_exception(can_pass),
        stop=stop_after_attempt(1 + len(RETRY_SECONDS)),
        wait=waits,
        before_sleep=lambda state: _log_retry(job, state),
        reraise=True,
    )
    seconds = context.config.runner.shard_timeout
    if seconds is None or job.shard.name == ALL:
        return attempts(_do_once, job, context)
    abandoned = threading.Event()
    try:
        return done_within(seconds, lambda: attempts(_do_once, job, context, abandoned), job.name)
    except JobTimeoutError as error:
        abandoned.set()
        context.abandon()
        note_failure(Ledger(context.config.run_folder), job, error, seconds)
        raise


def done_within(seconds: float, work: Callable[[], T], name: str) -> T:
    """Does work in a thread, and returns its result.

    A call that hangs, as one of a device, cannot be ended; its thread is left alone.

    Raises:
        JobTimeoutError: the work takes longer.
    """
    ended: Future[T] = Future()
    here = contextvars.copy_context()

    def run() -> None:
        try:
            ended.set_result(here.run(work))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            ended.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    if not wait([ended], seconds).done:
        raise JobTimeoutError(
            f"{name}: not done after {seconds:g} s; expected less (runner.shard_timeout); see that"
            " the device and the disk answer, or set a larger runner.shard_timeout, and run the"
            " same command again"
        )
    return ended.result()


def attempt(job: Job, context: RunContext) -> Exception | None:
    """Runs a job. Returns None, or the error that it ended with."""
    try:
        do_job(job, context)
    except Exception as error:  # noqa: BLE001 - every error of a job goes into the run's summary
        return error
    return None


def _do_once(job: Job, context: RunContext, abandoned: threading.Event | None = None) -> Receipt:
    if not is_kept_up(context.paths.folder):
        refresh_notes(context.paths.folder, SHARD_STAGES, job.shard.name)
    outcome = Outcome(skipped_before=_skipped_before(job, context))
    stages, shards = list(shard_stages_of(context.config)), list[str]()
    if job.shard.name == ALL:
        stages = [name for name in STAGES if context.the_plan.jobs.get(name)]
        shards = context.finished_shards()
        fetch_products(context.paths.folder, STAGE[job.stage].reads, shards)
    else:
        fetch_products(context.paths.folder, stages[: stages.index(job.stage)], [job.shard.name])
    sources = _sources_of(job, context)
    _check_same_sources(job, context, sources)
    with receipted(context.paths, job, outcome, stages, shards, sources):
        # Import it here, because it imports model libraries, which planning does not need.
        work: Any = import_module(f"flows.labelling.{job.stage}")
        try:
            work.run(job, context, outcome)
        finally:
            if job.shard.name == ALL:
                context.release()
        if abandoned is not None and abandoned.is_set():
            raise JobTimeoutError(f"{job.name}: it was given up before it ended")
        if job.shard.name == ALL:
            outcome.counts["videos"] = len(job.shard.videos) - len(outcome.skipped_before)
    assert outcome.receipt is not None, "committed at the end of the block"
    return outcome.receipt


def _sources_of(job: Job, context: RunContext) -> dict[str, str]:
    """Returns digests of what the job reads of the data set."""
    shards = context.the_plan.run_shards if job.shard.name == ALL else [job.shard]
    digests = context.source_digests().of_shard
    return {
        kind: digest_of_sources(digests, shards, kind)
        for kind in STAGE[job.stage].looks_at(context.config)
    }


def _check_same_sources(job: Job, context: RunContext, sources: Mapping[str, str]) -> None:
    """Raises StoreError if a product that the job reads was made from other frames."""
    if job.shard.name == ALL:
        return
    ledger = Ledger(context.config.run_folder)
    for stage in shard_stages_of(context.config):
        if stage not in STAGE[job.stage].reads:
            continue
        receipt = ledger.receipt(stage, job.shard.name)
        made_from = {} if receipt is None else receipt.made_from
        changed = [kind for kind, now in sources.items() if made_from.get(kind, now) != now]
        if changed:
            part = context.paths.part(stage, job.shard.name)
            raise StoreError(
                f"{part}: its {SOURCES[changed[0]]} in the data set after it was made; expected the"
                f" same; run the same command again, which does {stage} again"
            )


def _skipped_before(job: Job, context: RunContext) -> dict[str, str]:
    """Returns video -> reason, for videos that earlier stages skipped: in the shard or the run."""
    ledger, stages = Ledger(context.config.run_folder), shard_stages_of(context.config)
    if job.shard.name == ALL:
        shards = [shard.name for shard in context.the_plan.run_shards]
    else:
        stages, shards = stages[: stages.index(job.stage)], [job.shard.name]
    reasons: dict[str, str] = {}
    for stage in stages:
        for shard in shards:
            receipt = ledger.receipt(stage, shard)
            reasons.update(receipt.skipped if receipt else {})
    return reasons


def _log_retry(job: Job, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s: attempt %d failed (%s)", job.name, state.attempt_number, error)
