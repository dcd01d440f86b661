"""Weak views of a data set: what a cheaper annotation would have given, and nothing more.

``boxes`` has the boxes of every annotated frame; ``first_mask`` the mask of the frame in which the
target first appears and boxes in the others (SimRVOS, arXiv 2308.02162). Letters: n objects, H W
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.ports import DatasetReader, Image
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources

View = Literal["boxes", "first_mask"]
VIEWS: tuple[View, ...] = ("boxes", "first_mask")


class WeakView:
    """A :class:`pipeline.ports.DatasetReader` that shows part of another's annotation.

    Args:
        reader: the data set in full.
        view: which part; evaluation needs the reader itself.
    """

    def __init__(self, reader: DatasetReader, view: View) -> None:
        if view not in VIEWS:
            raise ValueError(f"view {view!r}; expected one of {', '.join(VIEWS)}")
        self.name = reader.name
        self.split = reader.split
        self.in_order = reader.in_order
        self._reader = reader
        self._view = view
        self._first: dict[SampleKey, FrameIndex | None] = {}

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order."""
        return self._reader.video_ids()

    def video(self, video_id: str) -> VideoRef:
        """The frames of a video."""
        return self._reader.video(video_id)

    def sources(self, video_id: str) -> VideoSources:
        """Where the video's files are."""
        return self._reader.sources(video_id)

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The expressions of a video."""
        return self._reader.expressions(video_id)

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """One decoded frame."""
        return self._reader.frame(video, index)

    def truth(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask [H, W] of the target's first frame in the view ``first_mask``; else None."""
        if self._view == "first_mask" and index == self._first_frame(video, expression):
            return self._reader.truth(video, expression, index)
        return None

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """The pixels [H, W] that no figure counts."""
        return self._reader.void(video, index)

    def boxes(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.float32] | None:
        """The boxes [n, 4] of the target."""
        return self._reader.boxes(video, expression, index)

    def _first_frame(self, video: VideoRef, expression: Expression) -> FrameIndex | None:
        if expression.key not in self._first:
            indices = (FrameIndex(index) for index in range(len(video)))
            masks = ((index, self._reader.truth(video, expression, index)) for index in indices)
            seen = (index for index, mask in masks if mask is not None and mask.any())
            self._first[expression.key] = next(seen, None)
        return self._first[expression.key]
