"""What labelling costs: seconds of an annotator's time under each weak view of a data set.

The model of SimRVOS (arXiv 2308.02162): 79 s a mask and 7 s a box. At its 27.3 annotated frames a
target all masks take 2157 s, the first mask and boxes 8.2 times less, boxes alone 11 times less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MASK_SECONDS = 79.0
BOX_SECONDS = 7.0


@dataclass(frozen=True)
class LabellingCost:
    """One way to label a data set.

    Attributes:
        name: the way.
        masks, boxes: how many of each.
        seconds: of an annotator's time; NaN where the model has no figure for it.
        times_less: how many times less than all masks; infinite where it costs nothing.
    """

    name: str
    masks: int
    boxes: int
    seconds: float
    times_less: float


def labelling_costs(shown: Sequence[int]) -> list[LabellingCost]:
    """The cost of a data set as it is and under each weak view.

    Args:
        shown: for each target, the annotated frames that show it; targets with none cost nothing.
    """
    frames, targets = sum(shown), sum(count > 0 for count in shown)
    full = MASK_SECONDS * frames

    def cost(name: str, masks: int, boxes: int) -> LabellingCost:
        seconds = MASK_SECONDS * masks + BOX_SECONDS * boxes
        return LabellingCost(name, masks, boxes, seconds, full / seconds if seconds else math.inf)

    return [
        cost("all masks", frames, 0),
        cost("first mask and boxes (first_mask)", targets, frames - targets),
        cost("boxes (boxes)", 0, frames),
        cost("first mask alone", targets, 0),
        # The paper gives no time for a point.
        LabellingCost("points (point)", 0, 0, math.nan, math.nan),
        cost("sentences alone (text)", 0, 0),
    ]
