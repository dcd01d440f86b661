"""Where the seconds of a stage go: in its own work, waiting for frames, waiting for writes.

Each is wall-clock time of the thread that works on the shard, so the three and the rest add up to
the seconds of the receipt. On a GPU the work ends with its results on the host, so that its seconds
are those in which the device had work, gaps between its kernels included. Nothing of this goes into
a fingerprint or a digest.
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
"""Name in a receipt's counts -> what tables call it."""


class Meter:
    """Adds up seconds by kind."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(KINDS, 0.0)

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """The block's wall-clock time counts as ``kind``, whether or not it ends well."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - start


def shares(receipts: Sequence[Receipt]) -> dict[str, float]:
    """What tables call a kind -> its share of the receipts' seconds, in [0, 1].

    Receipts without such figures, those of earlier versions, are left out; empty where no receipt
    has any.
    """
    told = [item for item in receipts if BUSY in item.counts and item.seconds > 0]
    whole = sum(item.seconds for item in told)
    return {
        name: sum(item.counts.get(kind, 0.0) for item in told) / whole
        for kind, name in KINDS.items()
        if told
    }


def in_words(receipts: Sequence[Receipt]) -> str:
    """Such as ``busy 93%, frames 2%, writes 1%``; empty where no receipt says."""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares(receipts).items())
