"""How a product gets its receipt: withdrawn first, written last; a failure leaves a note."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flows.planning.products import inputs_now, marks_of
from flows.planning.run_paths import RunPaths
from pipeline.errors import StoreError
from pipeline.types import Receipt
from storage.files.checksums import product_digest
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)


@dataclass
class Work:
    """What is filled in while a stage works.

    Attributes:
        set_aside: video -> why it could not be worked on.
        counts: figures of the work.
        seconds: where its time went (``flows/timing.py``).
        unforeseen: errors that videos were set aside for and that no code foresaw.
    """

    set_aside: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    unforeseen: list[Exception] = field(default_factory=list)
    receipt: Receipt | None = None


@contextmanager
def receipted(
    paths: RunPaths,
    stage: str,
    shard: str,
    fingerprint: str,
    videos: Sequence[str],
    basis: Mapping[str, Any],
    reads: tuple[Collection[str], Collection[str]],
) -> Iterator[Work]:
    """Commits the receipt of the work in the block when it ends without an error.

    Args:
        basis: what the fingerprint was made of.
        reads: the run's stages and, for a stage of the whole run, its finished shards.

    Raises:
        Exception: what the block raises, once it is noted in the ledger.
    """
    ledger = Ledger(paths.folder)
    made_from = inputs_now(ledger, stage, shard, *reads)
    ledger.withdraw(stage, shard)
    started, work = time.monotonic(), Work()
    asked = Receipt(stage, shard, fingerprint, tuple(videos), basis=dict(basis))
    try:
        yield work
    except Exception as error:
        note_failure(ledger, asked, error, time.monotonic() - started)
        raise
    files = marks_of(paths, stage, shard, videos)
    work.receipt = Receipt(
        stage,
        shard,
        fingerprint,
        tuple(videos),
        set_aside=work.set_aside,
        counts={
            name: float(count) for name, count in sorted({**work.counts, **work.seconds}.items())
        },
        seconds=time.monotonic() - started,
        basis=dict(basis),
        made_from=made_from,
        files=files,
        product=product_digest(files),
    )
    ledger.commit(work.receipt)


def note_failure(ledger: Ledger, asked: Receipt, error: Exception, seconds: float = 0.0) -> None:
    """Notes in the ledger that the work that a receipt was to be for failed."""
    before = ledger.failure(asked.stage, asked.shard)
    tried = before.attempts if before and before.fingerprint == asked.fingerprint else 0
    try:
        ledger.fail(
            Receipt(
                asked.stage,
                asked.shard,
                asked.fingerprint,
                asked.videos,
                seconds=seconds,
                basis=asked.basis,
                error=f"{type(error).__name__}: {error}",
                attempts=tried + 1,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )
    except (StoreError, OSError) as other:
        # The disk that is full may be what failed: the note is a help, the missing receipt counts.
        logger.warning("%s %s: its failure is not noted (%s)", asked.stage, asked.shard, other)
