"""What labelling costs: seconds of an annotator's time for each kind of annotation.

The model of SimRVOS (arXiv 2308.02162): 79 s a mask and 7 s a box. At its 27.3 annotated frames a
target all masks take 2157 s, the first mask and boxes 8.2 times less, boxes alone 11 times less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MASK_SECONDS = 79.0
BOX_SECONDS = 7.0
POINT_SECONDS = 2.4
"""Of a target's first point (Bearman et al., ECCV 2016); SimRVOS has no figure for it."""


@dataclass(frozen=True)
class LabellingCost:
    """One way to label a data set.

    Attributes:
        name: the way.
        masks, boxes, points: how many of each.
        seconds: of an annotator's time.
        times_less: how many times less than all masks; infinite where it costs nothing.
    """

    name: str
    masks: int
    boxes: int
    points: int
    seconds: float
    times_less: float


def labelling_costs(shown: Sequence[int]) -> list[LabellingCost]:
    """Returns the cost of a data set as it is, and of each kind of weaker annotation.

    Args:
        shown: for each target, the annotated frames that show it; targets with none cost nothing.
    """
    frames, targets = sum(shown), sum(count > 0 for count in shown)
    full = MASK_SECONDS * frames

    def cost(name: str, masks: int = 0, boxes: int = 0, points: int = 0) -> LabellingCost:
        seconds = MASK_SECONDS * masks + BOX_SECONDS * boxes + POINT_SECONDS * points
        less = full / seconds if seconds else math.inf
        return LabellingCost(name, masks, boxes, points, seconds, less)

    return [
        cost("all masks", masks=frames),
        cost("first mask and boxes (first_mask_boxes)", masks=targets, boxes=frames - targets),
        cost("boxes (boxes)", boxes=frames),
        cost("first mask alone (first_mask)", masks=targets),
        cost("points (budget)", points=frames),
        cost("sentences alone (text)"),
    ]


@dataclass(frozen=True)
class Annotation:
    """How much annotation there is.

    Attributes:
        masks, boxes, points: annotated frames of targets.
    """

    masks: int
    boxes: int
    points: int

    @property
    def seconds(self) -> float:
        """Seconds of an annotator's time."""
        return MASK_SECONDS * self.masks + BOX_SECONDS * self.boxes + POINT_SECONDS * self.points

    @property
    def words(self) -> str:
        """A line that says how much there is and what time it takes to make."""
        counts = {"masks": self.masks, "boxes": self.boxes, "points": self.points}
        words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
        hours = self.seconds / 3600
        time = f"{hours:.1f} h" if hours >= 1 else f"{self.seconds / 60:.0f} min"
        return (
            f"Annotation: {words}; {time} of an annotator's time at {MASK_SECONDS:g} s a mask,"
            f" {BOX_SECONDS:g} s a box and {POINT_SECONDS:g} s a point"
        )
