"""Which query a clip's target is matched with, against the cost of ReferFormer's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.config import ReferformerConfig
from stages.student.data.clips import Clip
from stages.student.data.supervision import (
    ABSENT,
    UNKNOWN,
    FrameSupervision,
    of_boxes,
    of_mask,
)
from stages.student.referformer.matching import TargetBoxes, matched_queries
from stages.student.referformer.network import Decoded
from stages.student.weak.filters import DynamicFilters
from stages.student.weak.losses import targets_of
from tests.pipeline.boxes import box_to_mask
from tests.stages.student.referformer.test_losses import literal_box, literal_score

HEIGHT, WIDTH, QUERIES = 16, 24, 3
CPU = torch.device("cpu")
BOX = np.array([[6, 4, 14, 12]], np.float32)
MASK = of_mask(box_to_mask(BOX[0], HEIGHT, WIDTH))
BOXED = of_boxes(BOX)
FILTERS = DynamicFilters(6, 3)


def clip_of(*supervision: FrameSupervision) -> Clip:
    image: NDArray[np.uint8] = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    return Clip((image,) * len(supervision), "the red star", supervision)


def found_for(frames: int, seed: int = 0) -> Decoded:
    rng = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return Decoded(
        scores=drawn(1, frames, QUERIES),
        boxes=0.2 + 0.4 * drawn(1, frames, QUERIES, 4).sigmoid(),
        centres=drawn(1, frames, QUERIES, 2).sigmoid(),
        theta=0.4 * drawn(1, frames, QUERIES, FILTERS.count),
        features=drawn(frames, 4, 4, 6),
        sentence=drawn(frames, 4),
        contrast=None,
        filters=FILTERS,
    )


def literal_cost(found: Decoded, clip: Clip, query: int, config: ReferformerConfig) -> float:
    """The cost of a query over a clip, frame by frame and cell by cell."""
    frames = range(len(clip.images))
    shown = [t for t in frames if clip.supervision[t].kind in ("mask", "boxes")]
    masked = [t for t in frames if clip.supervision[t].kind in ("mask", "absent")]
    target = [(BOX[0][0] + BOX[0][2]) / 2 / WIDTH, (BOX[0][1] + BOX[0][3]) / 2 / HEIGHT]
    target += [(BOX[0][2] - BOX[0][0]) / WIDTH, (BOX[0][3] - BOX[0][1]) / HEIGHT]
    cost = 0.0
    for t in shown:
        logit = float(found.scores[0, t, query])
        # The authors' GIoU cost is -GIoU; 2 (1 - GIoU) differs from it by the same for all.
        score = literal_score(logit, 1.0) - literal_score(logit, 0.0)
        cost += (2 * score + literal_box(found.boxes[0, t, query].tolist(), target)) / len(shown)
    focal, shared, total, cells = 0.0, 0.0, 0.0, 0
    logits = found.segmented(0, torch.full((len(found.features),), query)).logits
    for t in masked:
        wanted = targets_of([clip_of(clip.supervision[t])], (4, 6), CPU).mask[0]
        for logit, goal in zip(
            logits[t].flatten().tolist(), wanted.flatten().tolist(), strict=True
        ):
            chance = 1 / (1 + math.exp(-logit))
            focal += literal_score(logit, float(goal))
            shared, total, cells = shared + chance * goal, total + chance + goal, cells + 1
    if masked:
        cost += config.focal_weight * focal / cells
        cost -= config.dice_weight * (2 * shared + 1) / (total + 1)
    return cost


@pytest.mark.parametrize(
    "supervision",
    [
        (MASK, MASK, MASK),
        (MASK, BOXED, UNKNOWN),
        (BOXED, BOXED),
        (ABSENT, MASK, UNKNOWN),
        (ABSENT, ABSENT),
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_the_query_of_the_least_cost_is_matched(
    supervision: tuple[FrameSupervision, ...], seed: int
) -> None:
    clip, config = clip_of(*supervision), ReferformerConfig()
    found = found_for(len(supervision), seed)
    boxes = TargetBoxes([clip], CPU)
    matched = matched_queries(
        found, 0, targets_of([clip], (4, 6), CPU), boxes, [len(supervision)], config
    )
    costs = [literal_cost(found, clip, query, config) for query in range(QUERIES)]
    assert matched.tolist() == [costs.index(min(costs))] * len(supervision)


def test_each_clip_has_a_match_of_its_own_and_one_without_supervision_takes_the_best_score() -> (
    None
):
    found = found_for(5)
    clips = [clip_of(MASK, MASK), clip_of(UNKNOWN, UNKNOWN, UNKNOWN)]
    config = ReferformerConfig()
    targets, boxes = targets_of(clips, (4, 6), CPU), TargetBoxes(clips, CPU)
    matched = matched_queries(found, 0, targets, boxes, [2, 3], config).tolist()
    costs = [literal_cost(found, clips[0], query, config) for query in range(QUERIES)]
    best = int(found.scores[0, 2:].sigmoid().mean(0).argmax())
    assert matched == [costs.index(min(costs))] * 2 + [best] * 3


def test_a_targets_box_is_around_its_mask_or_all_its_boxes() -> None:
    two = of_boxes(np.array([[0, 0, 6, 4], [12, 8, 24, 16]], np.float32))
    found = TargetBoxes([clip_of(MASK, two, ABSENT, UNKNOWN)], CPU)
    assert found.known.tolist() == [True, True, False, False]
    expected = [[10 / 24, 0.5, 8 / 24, 0.5], [0.5, 0.5, 1, 1], [0] * 4, [0] * 4]
    torch.testing.assert_close(found.boxes, torch.tensor(expected))
