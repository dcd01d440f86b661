"""ReferFormer's losses of scores and boxes against the formulas of its authors' code."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.student.referformer.losses import box_losses, score_losses


def literal_score(logit: float, wanted: float) -> float:
    chance = 1 / (1 + math.exp(-logit))
    right = chance if wanted else 1 - chance
    return (0.25 if wanted else 0.75) * (1 - right) ** 2 * -math.log(right)


def literal_box(box: list[float], target: list[float]) -> float:
    """5 L1 + 2 (1 - GIoU), number by number."""

    def corners(item: list[float]) -> tuple[float, float, float, float]:
        x, y, width, height = item
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    (ax, ay, bx, by), (cx, cy, dx, dy) = corners(box), corners(target)
    shared = max(0.0, min(bx, dx) - max(ax, cx)) * max(0.0, min(by, dy) - max(ay, cy))
    union = (bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - shared
    hull = (max(bx, dx) - min(ax, cx)) * (max(by, dy) - min(ay, cy))
    giou = shared / union - (hull - union) / hull
    return 5 * sum(abs(a - b) for a, b in zip(box, target, strict=True)) + 2 * (1 - giou)


def test_scores_are_a_focal_loss_over_all_queries_and_the_matched_one_is_1_where_it_shows() -> None:
    scores = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    query, shown = torch.tensor([2, 2, 0, 0]), torch.tensor([True, False, True, True])
    found = score_losses(scores, query, shown)
    for row in range(4):
        wanted = [float(shown[row]) if q == query[row] else 0.0 for q in range(5)]
        expected = sum(map(literal_score, scores[row].tolist(), wanted))
        assert float(found[row]) == pytest.approx(expected, rel=1e-9)


def test_boxes_are_l1_and_giou() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.2, 0.3, 0.1, 0.1]], dtype=torch.float64)
    target = torch.tensor([[0.55, 0.45, 0.3, 0.3], [0.8, 0.7, 0.2, 0.3]], dtype=torch.float64)
    found = box_losses(boxes, target, 5, 2)
    for row in range(2):
        expected = literal_box(boxes[row].tolist(), target[row].tolist())
        assert float(found[row]) == pytest.approx(expected, rel=1e-6)
    assert float(box_losses(target, target, 5, 2).sum()) == pytest.approx(0, abs=1e-5)


def test_the_gradients_are_right() -> None:
    rng = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 4, generator=rng, dtype=torch.float64).requires_grad_()
    boxes = (0.2 + 0.5 * torch.rand(3, 4, generator=rng, dtype=torch.float64)).requires_grad_()
    target = 0.2 + 0.5 * torch.rand(3, 4, generator=rng, dtype=torch.float64)

    def of_scores(scores: Tensor) -> Tensor:
        return score_losses(scores, torch.tensor([0, 1, 1]), torch.tensor([True, True, False]))

    assert torch.autograd.gradcheck(of_scores, (scores,))
    assert torch.autograd.gradcheck(lambda b: box_losses(b, target, 5, 2), (boxes,))
