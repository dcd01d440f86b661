"""Some of the samples of a mask store, as a store to be read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from storage.arrays.masks import MaskStore


class ChosenMasks(MaskStore):
    """A mask store that shows some samples of another, and the videos that have any.

    Args:
        store: the other one.
        samples: (video, expression) pairs; those that it does not have are left out.
    """

    def __init__(self, store: MaskStore, samples: Collection[tuple[str, str]]) -> None:
        super().__init__(store.path)
        self._store, self._samples = store, frozenset(samples)
        self._of_videos = frozenset(video for video, _ in samples)

    def videos(self) -> list[str]:
        return [video for video in self._store.videos() if video in self]

    def expressions(self, video_id: str) -> tuple[str, ...]:
        return self._chosen(video_id, self._store.expressions(video_id))

    def texts(self, video_id: str) -> tuple[str, ...]:
        return self._chosen(video_id, self._store.texts(video_id))

    def fingerprints(self, video_id: str) -> tuple[str, ...]:
        return self._chosen(video_id, self._store.fingerprints(video_id))

    def __contains__(self, video_id: str) -> bool:
        if video_id not in self._of_videos or video_id not in self._store:
            return False
        names = self._store.expressions(video_id)
        return any((video_id, name) in self._samples for name in names)

    def __getstate__(self) -> dict[str, Any]:
        own = {"_store": self._store, "_samples": self._samples, "_of_videos": self._of_videos}
        return super().__getstate__() | own

    def _chosen(self, video_id: str, values: tuple[str, ...]) -> tuple[str, ...]:
        """The values that belong to the samples, out of one for each expression of the store."""
        names = self._store.expressions(video_id)
        return tuple(
            value
            for name, value in zip(names, values, strict=True)
            if (video_id, name) in self._samples
        )
