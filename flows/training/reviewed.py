"""Masks that people vouch for: samples that were accepted, or given another object."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from pipeline.decisions import Sample, digest_of_verdicts
from pipeline.errors import ConfigError
from pipeline.ports import MaskSource
from storage.run.ledger import Ledger


class ReviewedMasks:
    """Some of the samples of a mask source. Pickles if the source does.

    Args:
        masks: the source.
        reviewed: its samples that count.
    """

    def __init__(self, masks: MaskSource, reviewed: Collection[Sample]) -> None:
        self._masks, self._reviewed = masks, frozenset(reviewed)

    def samples(self) -> Iterator[tuple[str, str]]:
        """Yields the reviewed pairs (video, expression), in the order of the source."""
        return (sample for sample in self._masks.samples() if sample in self._reviewed)

    def read(
        self, video_id: str, expression_id: str, frames: Sequence[int]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.uint8]]:
        """Does what the source does."""
        return self._masks.read(video_id, expression_id, frames)

    def quality(
        self, video_id: str, expression_id: str
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Does what the source does."""
        return self._masks.quality(video_id, expression_id)


def reviewed_masks(context: RunContext, masks: MaskSource) -> ReviewedMasks:
    """Returns the masks of a run that people accepted, or whose object they chose.

    Raises:
        ConfigError: there are none, or the run has not done yet what people decided.
    """
    verdicts, path = context.verdicts, context.paths.decisions
    for receipt in Ledger(context.paths.folder).receipts("rank"):
        if receipt.basis.get("decisions", "") != digest_of_verdicts(verdicts, receipt.videos):
            raise ConfigError(
                f"{path}: has decisions that the masks of shard {receipt.shard} do not follow yet;"
                " expected masks made after the last decision; run `pseudolabels run` first"
            )
    reviewed = [sample for sample, verdict in verdicts.items() if verdict.reviewed]
    if not reviewed:
        raise ConfigError(
            f"{path}: no sample was accepted; expected some for --reviewed-only; decide with"
            " `pseudolabels review`"
        )
    return ReviewedMasks(masks, reviewed)
