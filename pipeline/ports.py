"""What stages need from outside, as Protocols. ``flows`` puts implementations in.

Letters: B frames of a batch, K texts, R ranked boxes, H W pixels, h w low-resolution cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """A data set on disk.

    Opening one reads only its index. A bad video raises an error when it is asked for. Several
    threads may call ``video`` and ``frame`` at once.

    Attributes:
        name: of the data set.
        split: of the data set.
        in_order: whether frames are read fast only in their order and by one thread.
    """

    name: str
    split: str
    in_order: bool

    def video_ids(self) -> Sequence[str]:
        """Returns the ids of the videos, sorted. Reads only the index."""
        ...

    def video(self, video_id: str) -> VideoRef:
        """Returns where a video's frames are. Raises InputError if any is missing."""
        ...

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """Returns the expressions of a video, sorted by id."""
        ...

    def sources(self, video_id: str) -> VideoSources:
        """Returns where a video's files are. Opens none of them; they may be missing."""
        ...

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """Returns one frame, RGB [H, W, 3].

        Raises:
            InputError: the frame is broken, or its size is not the video's.
        """
        ...

    def truth(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """Returns the ground truth, a mask [H, W]; None if the data set has none for this frame."""
        ...

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """Returns the pixels [H, W] that metrics leave out, because the ground truth does not cover
        them; None if there are none."""
        ...

    def boxes(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.float32] | None:
        """Returns the boxes of the target.

        Returns:
            float32 [n, 4], xyxy in pixels, half-open, one per visible object. n is 0 if the target
            is known to be absent. None if the data set has no boxes for this frame.
        """
        ...


@dataclass(frozen=True, eq=False)
class CaptionRequest:
    """An expression that a captioner is to augment.

    Attributes:
        video: the video that the expression is about.
        images: some of its frames, RGB [H, W, 3] each; empty for a captioner that needs none.
        expression: the expression.
        others: expressions of other objects of the same video.
        times: when each of the images is shown, seconds after the first frame of the video, if the
            captioner is to see them as a video; empty if it is to see loose images.
    """

    video: VideoRef
    images: Sequence[Image]
    expression: Expression
    others: Sequence[str] = ()
    times: Sequence[float] = ()


@dataclass(frozen=True)
class CaptionAnswer:
    """What a captioner made of one request.

    Attributes:
        augmentation: the expression with its positives and negatives.
        left_out: reason -> how many texts were written and not kept.
        tokens: that a model read and wrote in all attempts; 0 where none did, or nobody says.
        similarities: of all positives that a model measured, those that were left out among them.
    """

    augmentation: Augmentation
    left_out: Mapping[str, int] = field(default_factory=dict)
    tokens: tuple[int, int] = (0, 0)
    similarities: tuple[float, ...] = ()


class Captioner(Protocol):
    """Writes positives and hard negatives for expressions."""

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request, in their order."""
        ...


class Grounder(Protocol):
    """Finds boxes for sentences."""

    def embed(self, images: Sequence[Image]) -> object:
        """Returns the features of B frames of one size. They depend on no text."""
        ...

    def ground(self, embedding: object, texts: Sequence[str]) -> list[Boxes]:
        """Returns, for each of the B frames, the R best boxes of each of the K texts."""
        ...


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a person shows of an object in a frame.

    Attributes:
        points: float32 [n, 2], x and y in pixels; n may be 0.
        inside: bool [n], whether the object is at the point.
        box: float32 [4], xyxy in pixels; None for none.
    """

    points: NDArray[np.float32]
    inside: NDArray[np.bool_]
    box: NDArray[np.float32] | None = None

    def obeyed(self, masks: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Returns how many of the points each mask [m, H, W] agrees with: [m]."""
        columns, rows = self.points.astype(int).T.reshape(2, -1)
        found: NDArray[np.intp] = (masks[:, rows, columns] == self.inside).sum(1)
        return found


class Segmenter(Protocol):
    """Turns boxes into masks."""

    def embed(self, images: Sequence[Image]) -> object:
        """Returns the image embeddings of B frames of one size."""
        ...

    def decode(self, embedding: object, boxes: Sequence[NDArray[np.float32]]) -> list[Candidates]:
        """Returns, for each of the B frames, the masks of its boxes [Q, 4]; Q may be 0."""
        ...

    def prompted(self, embedding: object, prompt: Prompt) -> NDArray[np.bool_]:
        """Returns the mask [H, W] of what a person shows in the one frame of an embedding.

        Raises:
            ValueError: it shows nothing: neither a box nor a point inside.
        """
        ...


@dataclass(frozen=True)
class SeenObjects:
    """The objects that a tracker sees in one frame.

    Attributes:
        objects: int64 [n], numbers of the objects.
        logits: float16 [n, h, w], their masks, positive inside; the cells are those of
            :class:`pipeline.types.Candidates`.
        visible: float32 [n] in [0, 1], probability that the object is in the frame.
    """

    objects: NDArray[np.int64]
    logits: NDArray[np.float16]
    visible: NDArray[np.float32]


class Tracker(Protocol):
    """Follows objects through a video from boxes in some of its frames."""

    def follow(
        self,
        frames: Iterable[Image],
        prompts: Mapping[int, Mapping[int, NDArray[np.float32]]],
        cells: tuple[int, int],
    ) -> Iterator[SeenObjects]:
        """Yields the objects of each frame, from the first frame with a box of theirs on.

        Memory does not grow with the number of frames.

        Args:
            frames: in the order in which they are followed, which may be from last to first.
            prompts: position among ``frames`` -> number of an object -> its box [4] in that frame,
                xyxy in pixels.
            cells: (h, w) of the masks.
        """
        ...


class PhraseTracker(Protocol):
    """Finds all objects that noun phrases name, and follows them through a video."""

    def detect(
        self, frames: Iterable[Image], phrases: Sequence[str], cells: tuple[int, int]
    ) -> Iterator[SeenObjects]:
        """Yields the objects of each frame, from the first to the last.

        Memory does not grow with the number of frames.

        Args:
            frames: all frames of the video, in order.
            phrases: at least one.
            cells: (h, w) of the masks.
        """
        ...


class MaskSource(Protocol):
    """Pseudo-masks of a run, which are read one clip at a time."""

    def samples(self) -> Iterator[tuple[str, str]]:
        """Yields the pairs (video, expression), sorted."""
        ...

    def read(
        self, video_id: str, expression_id: str, frames: Sequence[int]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.uint8]]:
        """Returns mask [T, H, W], weight [T] and status [T] of the T frames asked for."""
        ...

    def quality(
        self, video_id: str, expression_id: str
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Returns weight [T] and status [T] of all frames. Reads no mask."""
        ...
