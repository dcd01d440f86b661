"""Removes what finished masks do not need, with ``keep = "masks"``.

A shard is the unit: its receipts are. A receipt says first that a product was released, and the
product is removed afterwards, so that a kill in between loses nothing. The masks of the plain
baseline are kept, because `evaluate` would need candidates for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.context import RunContext
from flows.planning.mirrored import existence, fetch_products, remove_product
from flows.planning.plan import Job
from flows.planning.products import inputs_now
from flows.planning.released import REMOVED_FROM, in_bytes, kept_and_loose, total_bytes
from flows.planning.run_paths import RunPaths
from flows.planning.shards import Shard
from flows.planning.stages import ALL, STAGE, shard_stages_of
from pipeline.errors import InputError
from pipeline.packed_masks import PackedMasks
from pipeline.text import read_text
from pipeline.types import PseudoMask, Receipt
from storage.arrays.masks import MaskStore
from storage.files.atomic import fresh_folder, remove_whole
from storage.files.checksums import mark_files
from storage.run.ledger import Ledger
from storage.tables import ground_videos, read_augmentations

if TYPE_CHECKING:
    from flows.labelling.baseline import BaselineMasks


def release_finished(context: RunContext, say: Callable[[str], None]) -> None:
    """Releases candidates and hypotheses of the shards that are done, and says how much.

    A shard is done if all of its stages are, and the metrics and the report cover its masks.
    Does nothing with ``keep = "all"``. Call it under the run's lock, at the end of a run.
    """
    if context.config.keep != "masks":
        return
    ledger, waiting, size = Ledger(context.paths.folder), 0, 0
    covered = _is_covered(context, ledger)
    stages, exists = shard_stages_of(context.config), existence(context.paths.folder)
    for jobs in zip(*(context.the_plan.jobs[stage] for stage in stages), strict=True):
        if not _has_something(context.paths, jobs[0].shard, exists):
            continue
        if not (covered and all(_is_done(job, ledger) for job in jobs)):
            waiting += 1
            continue
        try:
            size += _release(context, ledger, jobs[0].shard, exists)
        except InputError as error:
            say(f"Shard {jobs[0].shard.name}: its candidates stay: {error}")
    if size:
        say(f'Released {in_bytes(size)} of candidates and hypotheses (keep="masks")')
    if waiting:
        say(
            f"Candidates of {waiting} shards stay until their masks, the metrics and the report are"
            ' finished (keep="masks")'
        )


def _is_done(job: Job, ledger: Ledger) -> bool:
    return ledger.is_done(job.stage, job.shard.name, job.fingerprint)


def _has_something(paths: RunPaths, shard: Shard, exists: Callable[[Path], bool]) -> bool:
    return any(
        exists(place)
        for stage in REMOVED_FROM
        for place in paths.candidates_and_hypotheses(stage, shard.name)
    )


def _is_covered(context: RunContext, ledger: Ledger) -> bool:
    """Whether the metrics and the report were made from the masks that are there now."""
    shards = context.finished_shards()
    for stage in ("evaluate", "report"):
        receipt = ledger.receipt(stage, ALL)
        now = inputs_now(ledger, STAGE[stage], ALL, ["rank"], shards)
        if receipt is None or receipt.made_from.get("rank") != now["rank"]:
            return False
    return True


def _release(
    context: RunContext, ledger: Ledger, shard: Shard, exists: Callable[[Path], bool]
) -> int:
    """Releases a shard. Raises InputError if a video that has masks cannot be read."""
    size = 0
    for stage in REMOVED_FROM:
        receipt = ledger.receipt(stage, shard.name)
        places = context.paths.candidates_and_hypotheses(stage, shard.name)
        if receipt is None or not any(map(exists, places)):
            continue
        if not receipt.released:
            if stage == "segment" and _has_baseline(context.paths):
                _keep_baseline(context, shard)
            receipt = _released(context.paths, receipt)
            ledger.commit(receipt)
        size += receipt.released
        for place in places:
            remove_whole(place)
        remove_product(context.paths.folder, places)
    return size


def _released(paths: RunPaths, receipt: Receipt) -> Receipt:
    """Returns the receipt of a product of which only what is kept is left."""
    kept, loose = kept_and_loose(receipt)
    if receipt.stage == "segment":
        kept |= mark_files(paths.folder, [paths.baseline(receipt.shard)])
    return replace(receipt, files=kept, released=total_bytes(loose))


def _has_baseline(paths: RunPaths) -> bool:
    """Whether the run has measured its plain baseline, as it does where there is ground truth."""
    try:
        return json.loads(read_text(paths.metrics)).get("baseline") is not None
    except (OSError, ValueError):
        # Metrics that are gone are measured again, and need it then.
        return True


def _keep_baseline(context: RunContext, shard: Shard) -> None:
    """Writes the masks of a shard's plain baseline."""
    from flows.labelling.baseline import BaselineMasks

    paths = context.paths
    fetch_products(paths.folder, ("augment", "ground", "segment"), [shard.name])
    masks = BaselineMasks(paths, dict.fromkeys(shard.videos, shard.name))
    with fresh_folder(paths.baseline(shard.name), flush=True) as folder:
        store = MaskStore(folder)
        store.ensure_root()
        for video_id, texts, found in _baseline_of(context, shard, masks):
            store.write_video(context.reader().video(video_id), texts, found)


def _baseline_of(
    context: RunContext, shard: Shard, masks: BaselineMasks
) -> Iterator[tuple[str, list[str], list[PseudoMask]]]:
    """Yields a video, its sentences and their masks."""
    augmentations = read_augmentations(context.paths.part("augment", shard.name))
    there = set(ground_videos(context.paths.part("ground", shard.name)))
    receipt = Ledger(context.paths.folder).receipt("segment", shard.name)
    skipped = {} if receipt is None else receipt.skipped
    for video_id in shard.videos:
        if video_id not in there or video_id in skipped:
            continue
        video, mine, found = context.reader().video(video_id), augmentations.get(video_id, []), []
        for item in mine:
            made = masks.of_candidates(video, item.key.expression)
            if made is not None:
                mask, status = made
                weight = np.ones(len(mask), np.float32)
                found.append(PseudoMask(item.key, PackedMasks.of(mask), weight, status, ""))
        yield video_id, [item.original for item in mine], found
