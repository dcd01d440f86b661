from __future__ import annotations

import pytest
import torch

from stages.common.losses import dice_loss


@pytest.mark.parametrize(("inside", "outside", "loss"), [(50, -50, 0), (-50, 50, 9 / 10)])
def test_dice_is_0_for_the_target_and_near_1_for_the_reverse(
    inside: float, outside: float, loss: float
) -> None:
    target = torch.zeros(2, 3, 3)
    target[0, 0] = 1
    logits = torch.where(target > 0, inside, outside)
    found = dice_loss(logits, target)
    assert found.shape == (2,)
    assert float(found[0]) == pytest.approx(loss)


def test_an_empty_mask_that_is_predicted_empty_costs_nothing() -> None:
    assert float(dice_loss(torch.full((1, 4, 4), -50.0), torch.zeros(1, 4, 4))) == pytest.approx(0)
