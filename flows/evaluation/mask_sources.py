"""What is measured (``SampleMasks`` of ``scores.py``), out of what a run has on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.scores import Mask
from pipeline.types import Expression, VideoRef


class StoredMasks:
    """:class:`SampleMasks` of a mask store.

    Args:
        path: ``pseudomasks.zarr`` or the student's predictions.
    """

    def __init__(self, path: Path) -> None:
        from storage.arrays.masks import MaskStore

        self._store = MaskStore(path)

    def __call__(
        self, video: VideoRef, expression: Expression
    ) -> tuple[Mask, NDArray[np.uint8]] | None:
        name = expression.key.expression
        if video.id not in self._store or name not in self._store.expressions(video.id):
            return None
        mask, _, status = self._store.read(video.id, name)
        return mask, status
