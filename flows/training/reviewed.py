"""Some of the masks: samples that people vouch for, or of which enough is promised."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.finished_results import promised_samples
from pipeline.decisions import Sample, digest_of_verdicts
from pipeline.errors import ConfigError
from pipeline.ports import MaskSource
from storage.run.ledger import Ledger


class SomeMasks:
    """Some of the samples of a mask source. Pickles if the source does.

    Args:
        masks: the source.
        samples: its samples that count.
    """

    def __init__(self, masks: MaskSource, samples: Collection[Sample]) -> None:
        self._masks, self._samples = masks, frozenset(samples)

    def samples(self) -> Iterator[tuple[str, str]]:
        """Yields the pairs (video, expression) that count, in the order of the source."""
        return (sample for sample in self._masks.samples() if sample in self._samples)

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


def reviewed_masks(context: RunContext, masks: MaskSource) -> SomeMasks:
    """Returns the masks of a run that people accepted, or whose object they chose.

    Raises:
        ConfigError: there are none, or the run has not done yet what people decided.
    """
    verdicts, path = context.verdicts, context.paths.decisions
    for receipt in Ledger(context.paths.folder).each("rank"):
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
    return SomeMasks(masks, reviewed)


def promised_masks(context: RunContext, masks: MaskSource, minimum: float) -> SomeMasks:
    """Returns the masks of a run of which J of a minimum or more is promised.

    Raises:
        ConfigError: as of :func:`promised_samples`.
    """
    return SomeMasks(masks, promised_samples(context, minimum))
