"""Computes digests of products, and of the products that a stage reads.

A fingerprint says how a product was to be made. The digests say whether its inputs are still the
same, because a stage can give another result each time, as a sampling endpoint does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flows.planning.run_paths import RunPaths
from flows.planning.stages import ALL, STAGE, Stage
from pipeline.fingerprint import digest
from storage.files.checksums import mark_files
from storage.run.ledger import Ledger


def marks_of(paths: RunPaths, stage: Stage, shard: str, videos: Sequence[str]) -> dict[str, str]:
    """Returns path in the run's folder -> size and digest, for every file of a product."""
    return mark_files(paths.folder, stage.product(paths, shard, videos))


def joined(products: Mapping[str, str]) -> str:
    """Returns one digest of the products of many shards, given the digest of each."""
    return digest(products)


def inputs_now(
    ledger: Ledger, stage: Stage, shard: str, stages: Iterable[str], shards: Iterable[str]
) -> dict[str, str]:
    """Returns stage -> digest of its product, for the products that a stage would read now.

    Args:
        shard: a shard, or ``ALL`` for a stage of the whole run.
        stages: names of the stages that the run has. Others are not read.
        shards: for a stage of the whole run, the finished shards.
    """
    inputs: dict[str, str] = {}
    for name in stage.reads:
        if name not in stages:
            continue
        if shard == ALL and STAGE[name].over == "shard":
            inputs[name] = joined({item: _product(ledger, name, item) for item in shards})
        else:
            inputs[name] = _product(ledger, name, shard)
    return inputs


def _product(ledger: Ledger, stage: str, shard: str) -> str:
    receipt = ledger.receipt(stage, shard)
    return "" if receipt is None else receipt.product
