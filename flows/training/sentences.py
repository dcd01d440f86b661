"""Reads the positives and negatives of a run's samples, as the augment stage wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cachetools import LRUCache

from flows.planning.run_paths import RunPaths
from flows.planning.stages import SHARD_STAGES
from pipeline.types import Augmentation
from storage.run.layout import known_layout
from storage.run.ledger import Ledger
from storage.tables import read_augmentations

_SHARDS_HELD = 8


class StoredSentences:
    """:class:`stages.student.data.clips.Sentences` of a run. Instances pickle.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = RunPaths(folder)
        done = {receipt.shard for receipt in Ledger(folder).each("augment")}
        layout = known_layout(folder, SHARD_STAGES)
        self._shard = {
            video: shard for shard, videos in layout.items() if shard in done for video in videos
        }
        self._held: LRUCache[str, Mapping[str, list[Augmentation]]] = LRUCache(_SHARDS_HELD)

    def videos(self) -> Sequence[str]:
        """Ids of the videos that the stage has done; no table is read."""
        return list(self._shard)

    def samples(self) -> Iterator[tuple[str, str]]:
        """(video, expression) pairs that the run has sentences of."""
        for video_id in self._shard:
            for expression in self(video_id):
                yield video_id, expression

    def __call__(self, video_id: str) -> Mapping[str, Augmentation]:
        """Expression id -> augmentation; empty for a video that the run has none of."""
        shard = self._shard.get(video_id)
        if shard is None:
            return {}
        if shard not in self._held:
            self._held[shard] = read_augmentations(self._paths.part("augment", shard))
        return {item.key.expression: item for item in self._held[shard].get(video_id, [])}
