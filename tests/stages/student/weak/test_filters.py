"""Dynamic filters against eqs 5 and 7 of SimRVOS written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.student.weak.filters import DynamicFilters, with_coordinates

CHANNELS = 5


def drawn(filters: DynamicFilters, frames: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(frames, CHANNELS, 3, 4, generator=rng, dtype=torch.float64)
    theta = torch.randn(frames, filters.count, generator=rng, dtype=torch.float64)
    return with_coordinates(features), theta


def literal_logit(filters: DynamicFilters, cell: list[float], theta: list[float]) -> float:
    """The convolutions at one cell, number by number."""
    numbers, values = iter(theta), cell
    for layer in range(filters.layers):
        made = 1 if layer == filters.layers - 1 else filters.hidden
        weights = [[next(numbers) for _ in values] for _ in range(made)]
        biases = [next(numbers) for _ in range(made)]
        scale = math.sqrt(len(values)) if layer == 0 else 1.0
        shown = values if layer == 0 else [max(0.0, value) for value in values]
        values = [
            sum(w * value for w, value in zip(row, shown, strict=True)) / scale + bias
            for row, bias in zip(weights, biases, strict=True)
        ]
    assert next(numbers, None) is None
    return values[0]


@pytest.mark.parametrize("layers", [2, 3])
def test_every_frame_by_all_filters_is_equation_7_and_by_its_own_equation_5(layers: int) -> None:
    filters = DynamicFilters(CHANNELS + 2, layers)
    cells, theta = drawn(filters, 3)
    crossed, own = filters.crossed(cells, theta), filters.masks(cells, theta)
    assert crossed.shape == (3, 3, 3, 4)
    for t in range(3):
        for tau in range(3):
            for y in range(3):
                for x in range(4):
                    cell = cells[t, :, y, x].tolist()
                    expected = literal_logit(filters, cell, theta[tau].tolist())
                    assert float(crossed[t, tau, y, x]) == pytest.approx(expected, abs=1e-9)
    torch.testing.assert_close(crossed.diagonal().permute(2, 0, 1), own)


def test_coordinates_go_from_minus_one_to_one() -> None:
    cells = with_coordinates(torch.zeros(1, 1, 3, 5))
    assert cells[0, 1, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert cells[0, 2, :, 0].tolist() == [-1, 0, 1]


def test_coordinates_may_be_relative_to_a_place() -> None:
    cells = with_coordinates(torch.zeros(2, 1, 3, 5), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert torch.equal(cells[0], with_coordinates(torch.zeros(1, 1, 3, 5))[0])
    assert cells[1, 1, 0].tolist() == [0, 0.5, 1, 1.5, 2]
    assert cells[1, 2, :, 0].tolist() == [-2, -1, 0]


def test_the_last_numbers_alone_at_zero_make_an_empty_response() -> None:
    filters = DynamicFilters(CHANNELS + 2)
    cells, theta = drawn(filters, 2)
    theta[:, -filters.last :] = 0
    assert not filters.masks(cells, theta).any()
