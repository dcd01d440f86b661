"""Runs one job of a plan, and tries again if the cause of a failure can pass."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flows.context import RunContext
from flows.planning.plan import Job
from flows.planning.reasons import SOURCES
from flows.planning.receipts import Outcome, receipted
from flows.planning.sources import digest_of_sources
from flows.planning.stages import ALL, SHARD_STAGES, STAGE, STAGES
from pipeline.errors import PseudoLabelError, StoreError
from pipeline.types import Receipt
from storage.run.ledger import Ledger

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

RETRY_SECONDS = (2, 20)
"""Waits before the second and the third attempt."""

_PASSING = frozenset(
    {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR}
)


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
    return attempts(_do_once, job, context)


def attempt(job: Job, context: RunContext) -> Exception | None:
    """Runs a job. Returns None, or the error that it ended with."""
    try:
        do_job(job, context)
    except Exception as error:  # noqa: BLE001 - every error of a job goes into the run's summary
        return error
    return None


def _do_once(job: Job, context: RunContext) -> Receipt:
    outcome = Outcome(skipped_before=_skipped_before(job, context))
    stages, shards = list(SHARD_STAGES), list[str]()
    if job.shard.name == ALL:
        stages = [name for name in STAGES if context.the_plan.jobs.get(name)]
        shards = context.finished_shards()
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
    for stage in STAGE[job.stage].reads:
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
    ledger = Ledger(context.config.run_folder)
    if job.shard.name == ALL:
        stages, shards = SHARD_STAGES, [shard.name for shard in context.the_plan.run_shards]
    else:
        stages, shards = SHARD_STAGES[: SHARD_STAGES.index(job.stage)], [job.shard.name]
    reasons: dict[str, str] = {}
    for stage in stages:
        for shard in shards:
            receipt = ledger.receipt(stage, shard)
            reasons.update(receipt.skipped if receipt else {})
    return reasons


def _log_retry(job: Job, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s: attempt %d failed (%s)", job.name, state.attempt_number, error)
