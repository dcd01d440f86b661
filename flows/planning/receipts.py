"""Commits products: removes the old receipt first, and writes the new one last."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flows.planning.plan import Job
from flows.planning.products import inputs_now, marks_of
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGE
from pipeline.errors import StoreError
from pipeline.types import Failure, Receipt
from storage.files.checksums import product_digest
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)

EMPTY: Mapping[str, str] = {}


@dataclass
class Outcome:
    """The outcome of a job. The work of the stage fills it in.

    Attributes:
        skipped_before: video -> reason, for the videos that an earlier stage skipped.
        skipped: video -> reason, for the videos that this stage skipped.
        counts: numbers of frames, texts, boxes and so on.
        seconds: where the time went (``flows/timing.py``).
        unforeseen: unexpected errors for which videos were skipped.
        receipt: None until it is committed.
    """

    skipped_before: Mapping[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    unforeseen: list[Exception] = field(default_factory=list)
    receipt: Receipt | None = None


@contextmanager
def receipted(
    paths: RunPaths,
    job: Job,
    outcome: Outcome,
    stages: Collection[str],
    shards: Collection[str] = (),
    sources: Mapping[str, str] = EMPTY,
) -> Iterator[None]:
    """Commits the receipt of the work in the block, if the block ends without an error.

    Args:
        stages: names of the stages that the run has.
        shards: for a stage of the whole run, the finished shards.
        sources: digests of the frames and the ground truth that the work reads.

    Raises:
        Exception: the error of the block, after it is noted in the ledger.
    """
    ledger, stage, shard = Ledger(paths.folder), STAGE[job.stage], job.shard
    made_from = {**inputs_now(ledger, stage, shard.name, stages, shards), **sources}
    ledger.withdraw(job.stage, shard.name)
    started = time.monotonic()
    try:
        yield
    except Exception as error:
        note_failure(ledger, job, error, time.monotonic() - started)
        raise
    files = marks_of(paths, stage, shard.name, shard.videos)
    counts = {**outcome.counts, **outcome.seconds}
    outcome.receipt = Receipt(
        job.stage,
        shard.name,
        job.fingerprint,
        shard.videos,
        skipped=outcome.skipped,
        counts={name: float(count) for name, count in sorted(counts.items())},
        seconds=time.monotonic() - started,
        basis=dict(job.basis),
        made_from=made_from,
        files=files,
        product=product_digest(files),
    )
    ledger.commit(outcome.receipt, stage.product(paths, shard.name, shard.videos))


def note_failure(ledger: Ledger, job: Job, error: Exception, seconds: float = 0.0) -> None:
    """Writes a note of a failure to the ledger."""
    before = ledger.failure(job.stage, job.shard.name)
    tried = before.attempts if before and before.fingerprint == job.fingerprint else 0
    failure = Failure(
        job.stage,
        job.shard.name,
        job.fingerprint,
        error=f"{type(error).__name__}: {error}",
        seconds=seconds,
        attempts=tried + 1,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        ledger.fail(failure)
    except (StoreError, OSError) as other:
        # A full disk may be the failure. The note is optional: the missing receipt is what counts.
        logger.warning("%s: its failure is not noted (%s)", job.name, other)
