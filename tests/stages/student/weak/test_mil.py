"""L_MIL against its definition written out bag by bag."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from stages.student.weak.mil import GridBoxes, boxes_on_grid, mil_losses


def grid(*boxes: tuple[int, int, int, int]) -> GridBoxes:
    return np.array(boxes, np.int64).reshape(-1, 4)


def literal_loss(logits: Tensor, boxes: GridBoxes) -> float:
    chance = [[1 / (1 + math.exp(-value)) for value in row] for row in logits.tolist()]
    rows, columns = range(logits.shape[0]), range(logits.shape[1])
    holds: list[list[float]] = []
    holds_not: list[list[float]] = []
    for x0, y0, x1, y1 in boxes.tolist():
        holds += [[chance[y][x] for x in range(x0, x1)] for y in range(y0, y1)]
        holds += [[chance[y][x] for y in range(y0, y1)] for x in range(x0, x1)]
    free = [y for y in rows if not any(y0 <= y < y1 for _, y0, _, y1 in boxes.tolist())]
    holds_not += [[chance[y][x] for x in columns] for y in free]
    free = [x for x in columns if not any(x0 <= x < x1 for x0, _, x1, _ in boxes.tolist())]
    holds_not += [[chance[y][x] for y in rows] for x in free]
    costs = [-math.log(max(bag)) for bag in holds]
    found = sum(costs) / len(costs) if costs else 0.0
    costs = [-math.log(1 - max(bag)) for bag in holds_not]
    return found + (sum(costs) / len(costs) if costs else 0.0)


FRAMES = [
    grid((1, 2, 4, 5)),
    grid((0, 0, 6, 5)),
    grid((5, 4, 6, 5)),
    grid((0, 1, 2, 3), (4, 0, 6, 2)),
    grid(),
]


def test_the_loss_is_the_mean_cost_of_the_bags_of_each_kind() -> None:
    torch.manual_seed(0)
    logits = torch.randn(len(FRAMES), 5, 6, dtype=torch.float64)
    found = mil_losses(logits, FRAMES)
    for row, boxes in enumerate(FRAMES):
        assert float(found[row]) == pytest.approx(literal_loss(logits[row], boxes), rel=1e-9)


def by_masks(logits: Tensor, boxes: GridBoxes) -> Tensor:
    """As it is told by masks of the rows and columns that no box crosses."""
    rows, columns = (torch.ones(side, dtype=torch.bool) for side in logits.shape)
    positive = []
    for x0, y0, x1, y1 in boxes.tolist():
        inside = logits[y0:y1, x0:x1]
        positive += [inside.amax(1), inside.amax(0)]
        rows[y0:y1], columns[x0:x1] = False, False
    negative = torch.cat([logits[rows].amax(1), logits[:, columns].amax(0)])
    loss = functional.softplus(negative).mean() if len(negative) else logits.sum() * 0
    return loss + functional.softplus(-torch.cat(positive)).mean() if positive else loss


def test_the_loss_and_its_gradient_are_those_by_masks_and_nothing_is_looked_for() -> None:
    class Asked(TorchDispatchMode):
        def __torch_dispatch__(
            self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            asked.add(operator)
            return operator(*args, **kwargs or {})

    torch.manual_seed(2)
    logits, asked = torch.randn(len(FRAMES), 5, 6).round(decimals=1), set[Any]()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    with Asked():
        found = mil_losses(ours, FRAMES)
    aten = torch.ops.aten
    assert not asked & {aten.nonzero.default, aten.index.Tensor, aten._local_scalar_dense.default}
    expected = torch.stack([by_masks(*each) for each in zip(theirs, FRAMES, strict=True)])
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_its_gradient_is_right() -> None:
    torch.manual_seed(1)
    logits = torch.randn(len(FRAMES), 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mil_losses(x, FRAMES), logits)


def test_a_mask_that_fills_no_row_and_column_of_its_box_costs_more_than_one_that_does() -> None:
    def cost(mask: Tensor) -> float:
        return float(mil_losses(torch.where(mask, 8.0, -8.0)[None], [grid((2, 1, 6, 5))])[0])

    empty = torch.zeros(7, 9, dtype=torch.bool)
    diagonal, half, beyond = empty.clone(), empty.clone(), empty.clone()
    for step in range(4):
        diagonal[1 + step, 2 + step] = True
    half[1:5, 2:4] = True
    beyond[1:5, 2:7] = True
    assert cost(diagonal) < 0.01, "tight: every row and column is touched"
    assert cost(half) > 0.5 and cost(beyond) > 0.3 and cost(empty) > 3


def test_a_row_and_a_column_move_their_largest_pixel_alone() -> None:
    logits = torch.arange(30.0).reshape(5, 6) / 30
    logits[2, 2] = 3.0
    logits.requires_grad_()
    mil_losses(logits[None], [grid((1, 1, 4, 4))]).sum().backward()
    assert logits.grad is not None
    raised = [(1, 3), (2, 2), (3, 1), (3, 3)]
    lowered = [(0, 5), (4, 0), (4, 4), (4, 5)]
    assert [tuple(place) for place in (logits.grad < 0).nonzero().tolist()] == raised
    assert [tuple(place) for place in (logits.grad > 0).nonzero().tolist()] == lowered


def test_no_boxes_teach_background_and_no_frames_give_nothing() -> None:
    assert float(mil_losses(torch.full((1, 4, 4), -9.0), [grid()])[0]) < 0.001
    assert float(mil_losses(torch.full((1, 4, 4), 9.0), [grid()])[0]) > 5
    assert mil_losses(torch.zeros(0, 4, 4), []).shape == (0,)


def test_sure_logits_stay_finite() -> None:
    logits = torch.full((2, 4, 4), 200.0, requires_grad=True)
    loss = mil_losses(logits * torch.tensor([1.0, -1.0])[:, None, None], [grid((1, 1, 3, 3))] * 2)
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ((0, 0, 64, 40), (0, 0, 16, 10)),
        ((8, 4, 24, 12), (2, 1, 6, 3)),
        ((9, 5, 23, 11), (2, 1, 6, 3)),
        ((20, 20, 20.5, 20.5), (5, 5, 6, 6)),
        ((63, 39, 64, 40), (15, 9, 16, 10)),
        ((-5, -5, 70, 50), (0, 0, 16, 10)),
    ],
)
def test_boxes_on_a_coarser_grid(
    box: tuple[float, float, float, float], cells: tuple[int, int, int, int]
) -> None:
    found = boxes_on_grid(np.array([box], np.float32), (40, 64), (10, 16))
    assert found.tolist() == [list(cells)]


def test_no_boxes_on_a_coarser_grid() -> None:
    assert boxes_on_grid(np.zeros((0, 4), np.float32), (40, 64), (10, 16)).shape == (0, 4)
