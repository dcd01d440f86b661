"""What a stage needs of the outside, as Protocols; put together in ``flows``.

Letters: B frames of a batch, K texts, R ranked boxes, H W pixels, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Expression,
    FrameIndex,
    VideoRef,
    VideoSources,
)

Image = NDArray[np.uint8]
"""RGB, [H, W, 3]."""


class DatasetReader(Protocol):
    """A data set on disk. Opening one is lazy; a bad video raises when it is asked for.

    ``video`` and ``frame`` may be called by several threads at once; where ``in_order`` is True,
    frames come fast only in their order, to one thread.
    """

    name: str
    split: str
    in_order: bool

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""
        ...

    def video(self, video_id: str) -> VideoRef:
        """The frames of a video. Raises InputError if any is missing."""
        ...

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The expressions of a video, in the order of their ids."""
        ...

    def sources(self, video_id: str) -> VideoSources:
        """Where a video's files are. Opens none of them, and none need be there."""
        ...

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """One decoded frame. Raises InputError if it is broken or of another size."""
        ...

    def truth(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The true mask [H, W]; None where the data set has none for this frame."""
        ...

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """The pixels [H, W] that the truth says nothing of and no figure counts; None for none."""
        ...

    def boxes(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.float32] | None:
        """The target's boxes [n, 4], xyxy in pixels, half-open: one a visible object, n = 0 where
        the target is known to be absent; None where the data set does not say for this frame."""
        ...


@dataclass(frozen=True, eq=False)
class CaptionRequest:
    """An expression that a captioner is to augment.

    Attributes:
        video: the video that the expression is about.
        images: some of its frames, RGB [H, W, 3] each; empty for a captioner that needs none.
        expression: the expression.
        others: expressions of other objects of the same video.
    """

    video: VideoRef
    images: Sequence[Image]
    expression: Expression
    others: Sequence[str] = ()


@dataclass(frozen=True)
class CaptionAnswer:
    """What a captioner made of one request.

    Attributes:
        augmentation: the expression with its positives and negatives.
        left_out: reason -> how many texts were written and not kept.
    """

    augmentation: Augmentation
    left_out: Mapping[str, int] = field(default_factory=dict)


class Captioner(Protocol):
    """Writes positives and hard negatives for expressions."""

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request, in their order."""
        ...


class Grounder(Protocol):
    """Finds boxes for sentences."""

    def embed(self, images: Sequence[Image]) -> object:
        """Features of B frames of one size, which depend on no text."""
        ...

    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        """For each of the B frames, the R best boxes of each of the K texts."""
        ...


class Segmenter(Protocol):
    """Turns boxes into masks."""

    def embed(self, images: Sequence[Image]) -> object:
        """Image embeddings of B frames of one size."""
        ...

    def decode(self, embedding: object, boxes: Sequence[NDArray[np.float32]]) -> list[Candidates]:
        """For each of the B frames, the masks of its boxes [Q, 4]; Q may be 0."""
        ...


class MaskSource(Protocol):
    """Pseudo-masks of a run, read a clip at a time."""

    def samples(self) -> Iterator[tuple[str, str]]:
        """(video, expression) pairs in sorted order."""
        ...

    def read(
        self, video_id: str, expression_id: str, frames: Sequence[int]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.uint8]]:
        """mask [T, H, W], weight [T], status [T] of the frames asked for."""
        ...

    def quality(
        self, video_id: str, expression_id: str
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """weight [T] and status [T] of all frames; no mask is read."""
        ...
