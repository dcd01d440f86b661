"""Cross-frame segmentation: which pairs there are (eqs 7 to 9), their sums, and the gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.student.weak.filters import DynamicFilters
from stages.student.weak.lgcfs import cross_frame_losses, cross_frame_pairs

FILTERS = DynamicFilters(5)


def drawn(frames: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    cells = torch.randn(frames, FILTERS.inputs, 3, 4, generator=rng, dtype=torch.float64)
    theta = torch.randn(frames, FILTERS.count, generator=rng, dtype=torch.float64)
    return cells, theta


def test_the_pairs_are_every_other_frame_of_the_clip() -> None:
    cells, theta = drawn(4)
    logits, frame = cross_frame_pairs(FILTERS, cells, theta)
    every = FILTERS.crossed(cells, theta)
    wanted = [(t, tau) for t in range(4) for tau in range(4) if t != tau]
    assert frame.tolist() == [t for t, _ in wanted]
    for row, (t, tau) in enumerate(wanted):
        assert torch.equal(logits[row], every[t, tau])


def test_a_clip_of_one_frame_has_no_pairs() -> None:
    cells, theta = drawn(1)
    logits, frame = cross_frame_pairs(FILTERS, cells, theta)
    assert logits.shape == (0, 3, 4) and frame.shape == (0,)
    assert cross_frame_losses(logits.sum((1, 2)), frame, 1).tolist() == [0.0]


def test_a_frames_losses_are_summed_and_not_averaged() -> None:
    cells, theta = drawn(3)
    _, frame = cross_frame_pairs(FILTERS, cells, theta)
    each = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert cross_frame_losses(each, frame, 3).tolist() == [3.0, 12.0, 48.0]


def test_the_gradient_reaches_the_cells_of_t_and_the_filters_of_tau() -> None:
    cells, theta = (value.requires_grad_() for value in drawn(3))

    def loss(cells: Tensor, theta: Tensor) -> Tensor:
        logits, frame = cross_frame_pairs(FILTERS, cells, theta)
        return cross_frame_losses(logits.sigmoid().mean((1, 2)), frame, 3)

    assert torch.autograd.gradcheck(loss, (cells, theta))
    logits, frame = cross_frame_pairs(FILTERS, cells, theta)
    cross_frame_losses(logits.sigmoid().mean((1, 2)), frame, 3)[1].backward()
    assert cells.grad is not None and theta.grad is not None
    assert [bool(part.any()) for part in cells.grad] == [False, True, False]
    assert [bool(part.any()) for part in theta.grad] == [True, False, True]
