"""Measures where the time of a stage goes: its own work, waiting for frames, waiting for writes.

All are wall-clock times of the thread that works on the shard, so they and the rest add up to the
seconds of the receipt. On a GPU, work is measured until its results are on the host; it includes
gaps between kernels. None of this enters a fingerprint or a digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from pipeline.types import Receipt

BUSY = "seconds busy"
FRAMES = "seconds waiting for frames"
WRITES = "seconds waiting for writes"
KINDS: Mapping[str, str] = {BUSY: "busy", FRAMES: "frames", WRITES: "writes"}
"""Name in a receipt's counts -> name in tables."""


class Meter:
    """Adds up seconds by kind."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Counts the wall-clock time of the block as ``kind``, also if it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - start


def shares(receipts: Sequence[Receipt]) -> dict[str, float]:
    """Returns name in tables -> share of the receipts' seconds, in [0, 1].

    Receipts without times, of stages that measure none, are left out. Empty if no receipt has any.
    """
    told = [item for item in receipts if BUSY in item.counts and item.seconds > 0]
    whole = sum(item.seconds for item in told)
    return {
        name: sum(item.counts.get(kind, 0.0) for item in told) / whole
        for kind, name in KINDS.items()
        if told
    }


def in_words(receipts: Sequence[Receipt]) -> str:
    """Returns the shares in words: ``busy 93%, frames 2%, writes 1%``; empty if there are none."""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares(receipts).items())
