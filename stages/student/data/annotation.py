"""A data set's own annotation as supervision: all of it, or what a budget pays for.

Letters: T frames, H W pixels.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import cv2
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.config import BudgetConfig
from pipeline.ports import DatasetReader
from pipeline.types import Expression, FrameIndex, VideoRef
from stages.student.data.supervision import (
    UNKNOWN,
    FrameSupervision,
    KnownFrames,
    PseudoMasks,
    of_boxes,
    of_mask,
    of_points,
    unless_broken,
)

_VIDEOS_KEPT = 1024
"""Names and boxes, no pixels; opening a video looks at every frame's header."""

_MASK, _BOXES, _POINT, _OTHER = "m", "b", "p", "-"
"""What a budget buys for a frame."""


class Annotations:
    """A data set's own annotation as supervision: masks if there are any, else boxes.

    Args:
        reader: the data set.
        samples: pairs (video, expression), those of a video consecutively.
        budget: the part of the annotation that is used; None for all of it.
        seed: of the budget's random frames.
        made: the run's pseudo-masks. A budget needs them that asks for the least known frames, or
            that keeps them in the frames that it leaves out.

    Attributes:
        bought: after :meth:`samples`, number of targets' frames by what they have: ``mask``,
            ``boxes`` or ``points``. Sentences about the same object share its annotation.
    """

    def __init__(
        self,
        reader: DatasetReader,
        samples: Iterable[tuple[str, str]],
        budget: BudgetConfig | None = None,
        *,
        seed: int = 0,
        made: PseudoMasks | None = None,
    ) -> None:
        if budget is not None and budget.needs_masks and made is None:
            raise ValueError("a budget that needs pseudo-masks without any")
        self._reader, self._samples = reader, list(samples)
        self._budget, self._seed = budget, seed
        self._made = made
        self._others = made if budget is not None and budget.others == "pseudo_masks" else None
        self.bought: Counter[str] = Counter()
        self._counted: set[tuple[str, tuple[str, ...]]] = set()
        self._open: LRUCache[str, tuple[VideoRef, dict[str, Expression]]] = LRUCache(_VIDEOS_KEPT)
        # A letter a frame. To make a plan anew would read every mask of the video for each clip.
        self._plans: dict[tuple[str, str], str] = {}

    def samples(self) -> Iterator[KnownFrames]:
        """Yields every sample, with the weight 1 for each annotated frame.

        If other frames have less than a mask, the frames with masks are anchors. All annotation is
        read. A video with annotation that cannot be read is left out with a warning.
        """
        for video_id, group in groupby(self._samples, itemgetter(0)):
            yield from unless_broken(self._known(video_id, group))

    def frames(
        self, video_id: str, expression_id: str, indices: Sequence[int]
    ) -> list[FrameSupervision]:
        """Returns the supervision of these frames."""
        video, expressions = self._video(video_id)
        expression, plan = expressions[expression_id], self._plan(video_id, expression_id)
        found = {
            index: self._frame(video, expression, index, plan and plan[index]) for index in indices
        }
        left = [index for index in indices if found[index].kind == "unknown"]
        if self._others is not None and left:
            made = self._others.frames(video_id, expression_id, left)
            found.update(zip(left, made, strict=True))
        return [found[index] for index in indices]

    def _known(self, video_id: str, group: Iterable[tuple[str, str]]) -> Iterator[KnownFrames]:
        length = len(self._video(video_id)[0])
        for _, expression_id in group:
            known = self.frames(video_id, expression_id, range(length))
            weight = np.array([item.weight for item in known], np.float32)
            plan = self._plan(video_id, expression_id)
            kinds = [
                item.kind if not plan or plan[t] != _OTHER else "" for t, item in enumerate(known)
            ]
            self._count(video_id, expression_id, kinds)
            masked = np.array([kind == "mask" for kind in kinds])
            less = any(kind in ("boxes", "points") for kind in kinds) or self._others is not None
            yield KnownFrames(video_id, expression_id, weight, masked & less)

    def _count(self, video_id: str, expression_id: str, kinds: Sequence[str]) -> None:
        """Adds the annotation of a target to what is bought, unless it was added already."""
        objects = self._video(video_id)[1][expression_id].object_ids
        target = (video_id, tuple(objects) or (expression_id,))
        if target not in self._counted:
            self._counted.add(target)
            self.bought.update(kind for kind in kinds if kind in ("mask", "boxes", "points"))

    def _video(self, video_id: str) -> tuple[VideoRef, dict[str, Expression]]:
        if video_id not in self._open:
            found = self._reader.expressions(video_id)
            by_id = {item.key.expression: item for item in found}
            self._open[video_id] = self._reader.video(video_id), by_id
        return self._open[video_id]

    def _plan(self, video_id: str, expression_id: str) -> str:
        """Returns what the budget buys for each frame, a letter each; empty without a budget."""
        if self._budget is None:
            return ""
        key = (video_id, expression_id)
        if key not in self._plans:
            video, expressions = self._video(video_id)
            expression = expressions[expression_id]
            shown, annotated = [], []
            for t in range(len(video)):
                frame = FrameIndex(t)
                mask = self._reader.truth(video, expression, frame)
                if mask is not None and mask.any():
                    shown.append(t)
                if mask is not None or self._reader.boxes(video, expression, frame) is not None:
                    annotated.append(t)
            self._plans[key] = self._buy(key, len(video), shown, annotated)
        return self._plans[key]

    def _buy(
        self, key: tuple[str, str], length: int, shown: Sequence[int], annotated: Sequence[int]
    ) -> str:
        """Returns a letter for each of ``length`` frames.

        Args:
            shown: frames whose mask shows the target.
            annotated: frames with a mask or boxes.
        """
        budget = self._budget
        assert budget is not None
        plan = [_OTHER] * length
        for t in self._with_mask(key, shown):
            plan[t] = _MASK
        rest = [t for t in annotated if plan[t] == _OTHER]
        for t in rest[:: budget.boxes_every] if budget.boxes_every else ():
            plan[t] = _BOXES
        left = [t for t in shown if plan[t] == _OTHER]
        for t in left[:: budget.points_every] if budget.points_every else ():
            plan[t] = _POINT
        return "".join(plan)

    def _with_mask(self, key: tuple[str, str], shown: Sequence[int]) -> list[int]:
        budget = self._budget
        assert budget is not None
        count = min(budget.mask_frames, len(shown))
        match budget.mask_choice:
            case "first":
                return list(shown[:count])
            case "even":
                return [shown[int((i + 0.5) * len(shown) / count)] for i in range(count)]
            case "random":
                drawn = np.random.default_rng((self._seed, zlib.crc32("\0".join(key).encode())))
                return [int(t) for t in drawn.permutation(shown)[:count]]
            case "weight":
                assert self._made is not None
                weights = self._made.weights(*key)
                return sorted(shown, key=lambda t: (weights[t], t))[:count]

    def _frame(
        self, video: VideoRef, expression: Expression, index: int, bought: str
    ) -> FrameSupervision:
        """Returns the supervision of a frame by what is bought; empty for all that there is."""
        frame = FrameIndex(index)
        if bought in (_MASK, ""):
            mask = self._reader.truth(video, expression, frame)
            if mask is not None:
                return of_mask(mask)
        if bought in (_BOXES, ""):
            boxes = self._reader.boxes(video, expression, frame)
            return UNKNOWN if boxes is None else of_boxes(boxes)
        if bought == _POINT:
            mask = self._reader.truth(video, expression, frame)
            assert mask is not None, "a point is bought where a mask shows the target"
            return of_points(clicked_point(mask))
        return UNKNOWN


def clicked_point(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns the point [1, 2] that a person would click: the pixel farthest from the outline.

    Args:
        mask: [H, W], not empty.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return np.array([[x + 0.5, y + 0.5]], np.float32)
