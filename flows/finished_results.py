"""Finds the finished masks and predictions of a run: those with a receipt."""

from __future__ import annotations

from typing import Any

from flows.context import RunContext
from flows.planning.mirrored import fetch_products
from flows.planning.plan import Plan
from flows.planning.products import joined
from flows.planning.run_paths import RunPaths
from flows.planning.stages import ALL
from pipeline.decisions import Sample
from pipeline.errors import ConfigError, StoreError
from storage.arrays.masks import MaskStore
from storage.guarantee_table import GuaranteeTable, read_guarantee
from storage.run.ledger import Ledger
from storage.run.lock import lock_holder, works_under_lock


class FinishedMasks(MaskStore):
    """The masks of a run that have a receipt of ``rank``; other masks are ignored.

    Masks of a run in an object store are fetched.

    A folder without a ledger is not a run; all its masks count.

    Args:
        paths: of the run.
    """

    def __init__(self, paths: RunPaths) -> None:
        fetch_products(paths.folder, ("rank", "merge"))
        super().__init__(paths.masks)
        ledger = Ledger(paths.folder)
        self._finished = {video for receipt in ledger.each("rank") for video in receipt.videos}
        if not ledger.folder.is_dir():
            self._finished.update(super().videos())

    def videos(self) -> list[str]:
        return [video for video in super().videos() if video in self._finished]

    def __contains__(self, video_id: str) -> bool:
        return video_id in self._finished and super().__contains__(video_id)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_finished": self._finished}


def own_masks(context: RunContext) -> FinishedMasks:
    """The finished masks of a run.

    Prints a line if the run has unfinished masks, or if another process writes to the run.
    """
    store, paths = FinishedMasks(context.paths), context.paths
    total = len(MaskStore(paths.masks).videos())
    if (left_out := total - len(store.videos())) > 0:
        context.progress.say(
            f"{paths.masks}: {left_out} of {total} videos are left out, whose masks"
            " the run has not finished; `pseudolabels run` finishes them"
        )
    # A stage of a run has a plan, and holds the lock itself.
    own = context.plan is not None or works_under_lock(paths.folder)
    if not own and (holder := lock_holder(paths.folder)) is not None:
        context.progress.say(
            f"{paths.folder}: a run writes here ({holder}); its masks may"
            " change while they are read"
        )
    return store


def student_is_done(paths: RunPaths, plan: Plan) -> bool:
    """Whether the ledger holds the student's receipt for a plan, over all shards or over some.

    Predictions without that receipt belong to a failed student or to another configuration.
    """
    ledger = Ledger(paths.folder)
    return any(
        ledger.is_done("student", ALL, fingerprint)
        for job in plan.jobs.get("student", ())
        for fingerprint in (job.fingerprint, f"partial-{job.fingerprint}")
    )


def mark_of(context: RunContext) -> str:
    """Returns a digest of the run's masks, which a guarantee is about."""
    receipts = Ledger(context.paths.folder).each("rank")
    return joined({item.shard: item.product for item in receipts})


def promises_of(context: RunContext) -> tuple[GuaranteeTable | None, str]:
    """Returns what `pseudolabels guarantee` promised of the run's masks, and why there is nothing,
    if the reason is not that nobody asked for it."""
    path = context.paths.guarantee
    if not path.is_file():
        return None, ""
    try:
        table = read_guarantee(path)
    except StoreError as error:
        # The masks are there without it, and it can be made again.
        return None, str(error)
    if table.about.get("masks") == mark_of(context):
        return table, ""
    return None, f"{path}: is about earlier masks; make it again with `pseudolabels guarantee`"


def promised_samples(context: RunContext, minimum: float) -> set[Sample]:
    """Returns the samples of a run of which J of a minimum or more is promised.

    Raises:
        ConfigError: there are none, or nothing is promised of the run's present masks.
    """
    table, problem = promises_of(context)
    if table is None:
        raise ConfigError(
            f"{problem or f'{context.paths.guarantee}: missing'}; expected promises of the run's"
            " masks for --minimum-j; make them with `pseudolabels guarantee`"
        )
    enough = {sample for sample, (_, lower) in table.promised().items() if lower >= minimum - 1e-9}
    if not enough:
        raise ConfigError(
            f"{context.paths.guarantee}: J of {minimum:g} is promised of no sample; expected some"
            " for --minimum-j; give a lower one, or label more for `pseudolabels guarantee`"
        )
    return enough
