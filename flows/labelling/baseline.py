"""Masks of the plain baseline, from the stored boxes and candidates of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.mask_sources import StoredMasks
from flows.planning.run_paths import RunPaths
from pipeline.types import Augmentation, Boxes, Candidates, Expression, VideoRef
from stages.baseline import baseline_masks
from storage.arrays.candidates import read_candidates
from storage.tables import ground_videos, read_augmentations, read_ground

_Masks = tuple[NDArray[np.bool_], NDArray[np.uint8]]
_Held = tuple[dict[str, Augmentation], tuple[tuple[str, ...], list[Boxes]], Sequence[Candidates]]


class BaselineMasks:
    """``SampleMasks`` of the plain baseline. Where candidates were released, they are the masks
    that were kept of it.

    Args:
        paths: of the run.
        shard_of: video -> its shard, for the shards that are done.

    Attributes:
        missing: videos asked for that have neither candidates nor masks of the baseline.
    """

    def __init__(self, paths: RunPaths, shard_of: Mapping[str, str]) -> None:
        self._paths, self._shard_of = paths, shard_of
        self._video: str | None = None
        self._held: _Held | None = None
        self.missing: set[str] = set()

    def __call__(self, video: VideoRef, expression: Expression) -> _Masks | None:
        shard = self._shard_of.get(video.id)
        if shard is None or self._paths.part("segment", shard).exists():
            return self.of_candidates(video, expression.key.expression)
        kept = StoredMasks(self._paths.baseline(shard))(video, expression)
        if kept is None:
            self.missing.add(video.id)
        return kept

    def of_candidates(self, video: VideoRef, expression: str) -> _Masks | None:
        """Returns the mask [T, H, W] and status [T] of an expression, from stored candidates."""
        if self._video != video.id:
            self._video, self._held = video.id, self._read(video.id)
        if self._held is None:
            return None
        augmentations, (texts, boxes), candidates = self._held
        mine = augmentations.get(expression)
        if mine is None:
            return None
        return baseline_masks(mine, texts, boxes, candidates, video.height, video.width)

    def _read(self, video_id: str) -> _Held | None:
        shard = self._shard_of.get(video_id)
        if shard is None or video_id not in ground_videos(self._paths.part("ground", shard)):
            return None
        mine = read_augmentations(self._paths.part("augment", shard)).get(video_id, [])
        return (
            {item.key.expression: item for item in mine},
            read_ground(self._paths.part("ground", shard), video_id),
            read_candidates(self._paths.part("segment", shard), video_id),
        )
