"""What a check of a run finds: problems, and what the ledger holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flows.planning.run_paths import RunPaths
from pipeline.types import Receipt


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        path: the file or folder.
        what: what is wrong with it.
        stage, shard: of its receipt; empty without one.
        place: what to remove; None to remove the product of the receipt, or nothing if it is not
            part of the run.
    """

    path: Path
    what: str
    stage: str = ""
    shard: str = ""
    place: Path | None = None


@dataclass
class Contents:
    """What the ledger of a run holds.

    Attributes:
        videos: (stage, shard) -> videos, of valid receipts.
        broken: (stage, shard) of invalid receipts.
        files: number of files in valid receipts.
        size: their bytes.
    """

    videos: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    broken: set[tuple[str, str]] = field(default_factory=set)
    files: int = 0
    size: int = 0


def there_or_not(paths: RunPaths, receipt: Receipt) -> tuple[Path, ...]:
    """Returns what a process that was ended while it released a product may have left."""
    if receipt.released:
        return paths.candidates_and_hypotheses(receipt.stage, receipt.shard)
    return (paths.baseline(receipt.shard),)
