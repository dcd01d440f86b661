"""Stage ``merge`` of a run: one quality table, and a mask store without leftovers."""

from __future__ import annotations

from flows.context import RunContext
from flows.finished_results import promises_of
from flows.planning.plan import Job
from flows.planning.receipts import Outcome
from pipeline.decisions import Sample
from storage.arrays.masks import MaskStore
from storage.run.ledger import Ledger
from storage.tables import merge_quality


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Joins the quality tables of the shards and removes masks that have no receipt.

    These are masks of videos that the data set no longer has, or of a failed ``rank``. What is
    promised of the masks becomes two columns more.
    """
    names = context.finished_shards()
    parts = [context.paths.part("rank", name) for name in names]
    rows = merge_quality(parts, context.paths.quality, _promised(context))
    receipts = Ledger(context.config.run_folder).each("rank")
    kept = {video for receipt in receipts for video in receipt.videos}
    store = MaskStore(context.paths.masks)
    store.ensure_root()
    stale = [video for video in store.videos() if video not in kept]
    for video in stale:
        store.remove_video(video)
    outcome.counts.update({"rows": rows, "videos removed": len(stale)})


def _promised(context: RunContext) -> dict[Sample, tuple[float, float]] | None:
    table, problem = promises_of(context)
    if problem:
        context.progress.say(f"quality.parquet has no promises: {problem}", "yellow")
    return None if table is None else table.promised()
