"""What is measured (``SampleMasks`` of ``scores.py``), out of what a run has on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.scores import Mask, baseline_masks
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


class BaselineMasks:
    """:class:`SampleMasks` of the plain baseline, from the stored products of a run.

    Args:
        parts: (augment, ground, segment) products of the shard that holds a video; None where
            the shard is not done.
    """

    def __init__(self, parts: dict[str, tuple[Path, Path, Path]]) -> None:
        self._parts = parts
        self._video: str | None = None
        self._held: Any = None

    def __call__(
        self, video: VideoRef, expression: Expression
    ) -> tuple[Mask, NDArray[np.uint8]] | None:
        held = self._read(video.id)
        if held is None:
            return None
        augmentations, (texts, boxes), candidates = held
        mine = augmentations.get(expression.key.expression)
        if mine is None:
            return None
        return baseline_masks(mine, texts, boxes, candidates, video.height, video.width)

    def _read(self, video_id: str) -> Any:
        from storage.arrays.candidates import read_candidates
        from storage.tables import ground_videos, read_augmentations, read_ground

        if self._video != video_id:
            self._video, self._held = video_id, None
            if video_id in self._parts:
                augment, ground, segment = self._parts[video_id]
                if video_id in ground_videos(ground):
                    mine = read_augmentations(augment).get(video_id, [])
                    self._held = (
                        {item.key.expression: item for item in mine},
                        read_ground(ground, video_id),
                        read_candidates(segment, video_id),
                    )
        return self._held
