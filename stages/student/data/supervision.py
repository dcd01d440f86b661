"""The supervision of frames, and its sources.

The supervision of a frame is a mask, a pseudo-mask with its weight, boxes, points, optical flow,
the absence of the target, or unknown. Letters: T frames, H W pixels, n boxes or points.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.ports import DatasetReader, MaskSource
from pipeline.types import Status

logger = logging.getLogger(__name__)

_VIDEOS_KEPT = 1024
"""Names and boxes, no pixels; opening a video looks at every frame's header."""

Kind = Literal["mask", "boxes", "points", "absent", "flow", "unknown"]


@dataclass(frozen=True)
class FrameSupervision:
    """The supervision of one frame.

    Attributes:
        kind: ``mask`` teaches pixels; ``boxes`` teach by MIL; ``points`` lie on the target and say
            nothing else; ``absent`` teaches background; ``flow`` is of the whole frame, the same
            for all sentences (SLVP); ``unknown`` teaches nothing.
        weight: in [0, 1], weight of the frame in the loss; 0 only if it is unknown.
        mask: bool [H, W] for the kind ``mask``, else None.
        boxes: float32 [n, 4] for the kind ``boxes``, xyxy in pixels, half-open, n at least 1; else
            None.
        points: float32 [n, 2] for the kind ``points``, x and y in pixels, n at least 1; else None.
        flow: float32 [H, W, 2] for the kind ``flow``, x and y in pixels per frame, NaN where it is
            unknown; else None.
    """

    kind: Kind
    weight: float = 1.0
    mask: NDArray[np.bool_] | None = None
    boxes: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None
    flow: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        fits = (
            (self.kind == "mask") == (self.mask is not None)
            and (self.kind == "boxes") == (self.boxes is not None and len(self.boxes) > 0)
            and (self.kind == "points") == (self.points is not None and len(self.points) > 0)
            and (self.kind == "flow") == (self.flow is not None)
            and (self.kind == "unknown") == (self.weight == 0)
            and 0 <= self.weight <= 1
        )
        if not fits:
            raise ValueError(
                f"supervision {self.kind!r} of weight {self.weight} with"
                f" {'a' if self.mask is not None else 'no'} mask,"
                f" {'no' if self.boxes is None else len(self.boxes)} boxes,"
                f" {'no' if self.points is None else len(self.points)} points and"
                f" {'a' if self.flow is not None else 'no'} flow; expected what its kind says, and"
                " a weight in (0, 1], or 0 where it is unknown"
            )

    @property
    def tight_boxes(self) -> NDArray[np.float32]:
        """The boxes [n, 4], xyxy in pixels, half-open; of a mask, its own. None of other kinds."""
        if self.mask is not None:
            rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
            corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            return np.array([corners], np.float32)
        return np.zeros((0, 4), np.float32) if self.boxes is None else self.boxes

    def mirrored(self, width: int) -> FrameSupervision:
        """Returns the supervision of the mirrored frame, which is ``width`` pixels wide."""
        if self.mask is not None:
            mask = np.ascontiguousarray(self.mask[:, ::-1])
            return FrameSupervision("mask", self.weight, mask=mask)
        if self.boxes is not None:
            x0, y0, x1, y1 = self.boxes.T
            boxes = np.stack([width - x1, y0, width - x0, y1], axis=1).astype(np.float32)
            return FrameSupervision("boxes", self.weight, boxes=boxes)
        if self.points is not None:
            x, y = self.points.T
            return of_points(np.stack([width - x, y], axis=1).astype(np.float32))
        if self.flow is not None:
            return of_flow(self.flow[:, ::-1] * np.array([-1, 1], np.float32))
        return self


ABSENT = FrameSupervision("absent")
UNKNOWN = FrameSupervision("unknown", 0.0)


def of_mask(mask: NDArray[np.bool_], weight: float = 1.0) -> FrameSupervision:
    """Returns the supervision by a mask, or by a pseudo-mask of a weight. Empty means absent."""
    if weight == 0:
        return UNKNOWN
    if not mask.any():
        return FrameSupervision("absent", weight)
    return FrameSupervision("mask", weight, mask=mask)


def of_boxes(boxes: NDArray[np.float32]) -> FrameSupervision:
    """Returns the supervision by boxes [n, 4]. None of them means absent."""
    return FrameSupervision("boxes", boxes=boxes) if len(boxes) else ABSENT


def of_points(points: NDArray[np.float32]) -> FrameSupervision:
    """Returns the supervision by points [n, 2] on the target. None of them says nothing."""
    return FrameSupervision("points", points=points) if len(points) else UNKNOWN


def of_flow(flow: NDArray[np.float32]) -> FrameSupervision:
    """Returns the supervision by the flow [H, W, 2] of a frame."""
    return FrameSupervision("flow", flow=flow)


class KnownFrames(NamedTuple):
    """The frames of a sample that have supervision.

    Attributes:
        video, expression: ids of the sample.
        weight: float32 [T], weight of every frame; 0 if it is unknown.
        anchor: bool [T], frames of which every clip should hold one; all False if no frame is
            preferred. A first mask is one among many frames with boxes, and boxes say little about
            the target's outline without it.
    """

    video: str
    expression: str
    weight: NDArray[np.float32]
    anchor: NDArray[np.bool_]


class SupervisionSource(Protocol):
    """Gives the supervision of samples, one clip at a time."""

    def samples(self) -> Iterator[KnownFrames]:
        """Yields every sample; those of a video are consecutive."""
        ...

    def frames(
        self, video_id: str, expression_id: str, indices: Sequence[int]
    ) -> list[FrameSupervision]:
        """Returns the supervision of these frames, in this order."""
        ...


def unless_broken(samples: Iterable[KnownFrames]) -> list[KnownFrames]:
    """Returns the samples of a video; none, with a warning, if it cannot be read.

    One broken file must not end a training.
    """
    try:
        return list(samples)
    except InputError as error:
        logger.warning("left out of training: %s", error)
        return []


class PseudoMasks:
    """A run's pseudo-masks as supervision.

    Args:
        masks: the run's pseudo-masks.
        weighted: False gives every frame of known status the weight 1.
    """

    def __init__(self, masks: MaskSource, *, weighted: bool = True) -> None:
        self._masks, self._weighted = masks, weighted

    def samples(self) -> Iterator[KnownFrames]:
        """Yields every sample with its weights. Reads no mask."""
        for video, expression in self._masks.samples():
            weight = self.weights(video, expression)
            weight = weight if self._weighted else _certain(weight)
            yield KnownFrames(video, expression, weight, np.zeros(len(weight), np.bool_))

    def weights(self, video_id: str, expression_id: str) -> NDArray[np.float32]:
        """Returns the weights [T] of a sample's frames as the run has them."""
        return self._masks.quality(video_id, expression_id)[0]

    def frames(
        self, video_id: str, expression_id: str, indices: Sequence[int]
    ) -> list[FrameSupervision]:
        """Returns masks by weight; absent frames teach background, unknown ones nothing."""
        masks, weights, states = self._masks.read(video_id, expression_id, indices)
        if not self._weighted:
            weights = _certain(weights)
        return [
            UNKNOWN if status == Status.UNKNOWN else of_mask(mask, float(weight))
            for mask, weight, status in zip(masks, weights, states, strict=True)
        ]


class SentencesAlone:
    """Supervision by sentences alone: every frame is unknown and may be shown (WSRVOS).

    Args:
        reader: gives the videos.
        samples: returns the pairs (video, expression), those of a video consecutively. It is called
            when the samples are asked for.
    """

    def __init__(
        self, reader: DatasetReader, samples: Callable[[], Iterable[tuple[str, str]]]
    ) -> None:
        self._reader, self._samples = reader, samples

    def samples(self) -> Iterator[KnownFrames]:
        """Every sample; each frame as likely to be shown as another. A video that cannot be read
        is left out, and named in a warning."""
        for video_id, group in groupby(self._samples(), itemgetter(0)):
            yield from unless_broken(self._known(video_id, group))

    def _known(self, video_id: str, group: Iterable[tuple[str, str]]) -> Iterator[KnownFrames]:
        length = len(self._reader.video(video_id))
        weight, anchor = np.ones(length, np.float32), np.zeros(length, np.bool_)
        for _, expression in group:
            yield KnownFrames(video_id, expression, weight, anchor)

    def frames(
        self, video_id: str, expression_id: str, indices: Sequence[int]
    ) -> list[FrameSupervision]:
        """Returns unknown for every frame."""
        return [UNKNOWN] * len(indices)


def _certain(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return (weight > 0).astype(np.float32)
