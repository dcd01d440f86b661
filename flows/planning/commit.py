"""Writes the shards and the configuration of a run before its first stage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from flows.planning.mirrored import remove_product
from flows.planning.plan import Plan
from flows.planning.run_config import write_run_config
from flows.planning.run_paths import RunPaths
from flows.planning.stages import ALL, SHARD_STAGES, STAGE
from pipeline.config import RunConfig
from pipeline.errors import StoreError
from storage.run.layout import Layout, known_layout, layout_path, read_layout, write_layout
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)


def commit_plan(config: RunConfig, plan: Plan, again: Sequence[str]) -> None:
    """Writes what a plan has decided. Call it under the run's lock.

    Shards whose videos are all gone lose their receipts and products. Stages to do again lose their
    receipts, so that an interrupted run continues where it stopped.

    Args:
        again: stages to do again.

    Raises:
        StoreError: no space is left, or the folder may not be written to.
    """
    paths, ledger = RunPaths(config.run_folder), Ledger(config.run_folder)
    known = known_layout(paths.folder, SHARD_STAGES)
    place = layout_path(paths.folder)
    if known and not place.exists():
        logger.warning("%s: missing; it is made again from the receipts", place)
    for shard in plan.retired:
        _retire(paths, ledger, shard, known.get(shard, ()))
    _lay_out(paths.folder, {shard.name: shard.videos for shard in plan.layout})
    for stage in again:
        names = [ALL] if STAGE[stage].over == "run" else [shard.name for shard in plan.shards]
        for name in names:
            ledger.withdraw(stage, name)
    if plan.pending() or not paths.config.is_file():
        write_run_config(paths.config, config)


def _retire(paths: RunPaths, ledger: Ledger, shard: str, videos: Sequence[str]) -> None:
    """Removes the receipts and products of a shard. The layout is written afterwards, so that after
    an interruption the next run still knows what to remove.
    """
    for stage in SHARD_STAGES:
        ledger.withdraw(stage, shard)
        ledger.forget_failure(stage, shard)
        remove_product(paths.folder, STAGE[stage].product(paths, shard, videos))


def _lay_out(folder: Path, layout: Layout) -> None:
    try:
        stored = read_layout(folder)
    except StoreError:
        stored = {}
    if stored != layout:
        write_layout(folder, layout)
