"""The files of each stage's product, and the products that it was made from.

A fingerprint says how a product was to be made; the digests of what it was made from say whether
those products are still the same. They can differ where a stage gives another result each time, as
an endpoint that samples does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flows.planning.run_paths import ALL, SHARD_STAGES, RunPaths
from pipeline.fingerprint import digest
from storage.files.checksums import mark_files
from storage.files.names import is_safe_name, stored_name
from storage.run.ledger import Ledger

READS: Mapping[str, tuple[str, ...]] = {
    "augment": (),
    "ground": ("augment",),
    "segment": ("ground",),
    "fuse": ("augment", "ground", "segment"),
    "rank": ("fuse",),
    "merge": ("rank",),
    "student": ("augment", "rank"),
    "evaluate": ("augment", "ground", "segment", "rank", "student"),
    "report": ("augment", "rank", "merge", "student", "evaluate"),
}
"""Stage -> those whose products it reads."""


def product_places(paths: RunPaths, stage: str, shard: str, videos: Sequence[str]) -> list[Path]:
    """The files and folders that a product is made of.

    Args:
        videos: of the shard; their masks are the product of ``rank``. One whose id cannot name a
            folder was set aside and has none.
    """
    match stage:
        case "rank":
            named = (stored_name(video) for video in videos if is_safe_name(video))
            return [paths.part(stage, shard), *(paths.masks / name for name in named)]
        case "merge":
            return [paths.quality, paths.masks / "zarr.json"]
        case "report":
            return [paths.report.parent]
        case _:
            return [paths.product(stage, shard)]


def marks_of(paths: RunPaths, stage: str, shard: str, videos: Sequence[str]) -> dict[str, str]:
    """Size and digest of every file of a product, by its path in the run's folder."""
    return mark_files(paths.folder, product_places(paths, stage, shard, videos))


def joined(products: Mapping[str, str]) -> str:
    """One digest of the products of many shards; empty where an earlier release made them all."""
    return digest(products) if any(products.values()) else ""


def inputs_now(
    ledger: Ledger, stage: str, shard: str, stages: Iterable[str], shards: Iterable[str]
) -> dict[str, str]:
    """Digests of the products that a stage would read now.

    Args:
        shard: a shard, or ``ALL`` for a stage of the whole run.
        stages: of the run; others are not read.
        shards: for a stage of the whole run, those that are finished.
    """
    inputs: dict[str, str] = {}
    for name in READS[stage]:
        if name not in stages:
            continue
        if shard == ALL and name in SHARD_STAGES:
            inputs[name] = joined({item: _product(ledger, name, item) for item in shards})
        else:
            inputs[name] = _product(ledger, name, shard)
    return inputs


def _product(ledger: Ledger, stage: str, shard: str) -> str:
    receipt = ledger.receipt(stage, shard)
    return "" if receipt is None else receipt.product
