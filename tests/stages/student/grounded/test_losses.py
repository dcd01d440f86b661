"""The losses of the choice, against their sums written out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.student.data.clips import Clip
from stages.student.data.supervision import ABSENT, UNKNOWN, of_boxes, of_mask
from stages.student.grounded.losses import (
    choice_losses,
    objection_losses,
    overlaps,
    target_boxes,
)

SIZE = (40, 80)
BOX = np.array([[8, 4, 40, 24]], np.float32)


def masked() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[4:24, 8:40] = True
    return mask


def test_the_box_of_a_mask_is_its_own() -> None:
    expected = torch.tensor([[0.1, 0.1, 0.5, 0.6]])
    torch.testing.assert_close(target_boxes(of_mask(masked()), SIZE), expected)
    torch.testing.assert_close(target_boxes(of_boxes(BOX), SIZE), expected)
    assert target_boxes(ABSENT, SIZE).shape == (0, 4)


def test_overlaps_are_ious_and_0_where_no_box_is_known() -> None:
    images = (np.zeros((*SIZE, 3), np.uint8),) * 3
    clip = Clip(images, "a", (of_mask(masked()), UNKNOWN, of_boxes(np.tile(BOX, (2, 1)))))
    boxes = torch.tensor([[[0.3, 0.35, 0.4, 0.5], [0.3, 0.35, 0.4, 0.25]]]).expand(3, -1, -1)
    found = overlaps(boxes, [clip])
    assert found.shape == (1, 3, 1, 2)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([[1.0, 0.5], [0.0, 0.0], [1.0, 0.5]]))


def test_a_sentence_that_names_several_has_a_target_for_each_part_of_its_mask() -> None:
    mask = masked()
    mask[10:30, 50:70] = True
    mask[0, 79] = True  # a piece of an object
    images = (np.zeros((*SIZE, 3), np.uint8),) * 2
    clip = Clip(images, "the two dogs", (of_mask(mask), of_mask(masked())))
    boxes = torch.tensor([[0.3, 0.35, 0.4, 0.5], [0.75, 0.5, 0.25, 0.5]]).expand(2, -1, -1)
    found = overlaps(boxes, [clip])
    torch.testing.assert_close(found[0, 0], torch.eye(2))
    torch.testing.assert_close(found[0, 1], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    one = overlaps(boxes, [replace(clip, text="the dog")])
    assert one.shape == (1, 2, 1, 2) and one[0, 0].max() < 0.6, "one target has one box"


def literal_choice(logits: list[float], overlap: list[float], absent: bool) -> float:
    total = math.log(sum(math.exp(value) for value in logits))
    if absent:
        return total - logits[-1]
    if max(overlap) <= 0.5:
        return 0.0
    right = sum(
        (fit / max(overlap)) ** 4 * math.exp(value)
        for fit, value in zip(overlap, logits[:-1], strict=True)
        if fit > 0.5
    )
    return total - math.log(right)


def literal_choices(logits: list[float], overlaps: list[list[float]], absent: bool) -> float:
    """Of several targets, each among the instances that do not fit another one."""
    losses = []
    for row, overlap in enumerate(overlaps):
        others = [each for other, each in enumerate(overlaps) if other != row]
        kept = [
            place
            for place, fit in enumerate(overlap)
            if fit > 0.5 or not any(other[place] > 0.5 for other in others)
        ]
        if max(overlap) > 0.5 or absent:
            of = [logits[place] for place in kept] + logits[-1:]
            losses.append(literal_choice(of, [overlap[place] for place in kept], absent))
    return sum(losses) / max(1, len(losses))


def literal_objection(logits: list[float], overlap: list[float]) -> float:
    total = sum(math.exp(value) for value in logits)
    target = sum(
        math.exp(value) for value, fit in zip(logits[:-1], overlap, strict=True) if fit > 0.5
    )
    return -math.log(1 - target / total)


def drawn(targets: int = 1) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    overlap = torch.rand(3, 2, targets, 4, dtype=torch.float64)
    overlap[0, 0] = 0.4
    return logits, overlap


@pytest.mark.parametrize("targets", [1, 3])
def test_the_choice_is_of_any_instance_that_fits(targets: int) -> None:
    logits, overlap = drawn(targets)
    absent = torch.tensor([[False, False], [True, False], [False, False]])
    overlap[absent] = 0.0
    found = choice_losses(logits, overlap, absent).detach()
    for row in range(3):
        for frame in range(2):
            at = row, frame
            fits = overlap[at].tolist()
            expected = literal_choices(logits[at].tolist(), fits, bool(absent[at]))
            if targets == 1:
                alone = literal_choice(logits[at].tolist(), fits[0], bool(absent[at]))
                assert expected == pytest.approx(alone)
            assert float(found[at]) == pytest.approx(expected, abs=1e-9)
    assert float(found[0, 0]) == 0, "no instance is the target, so nothing is taught"


def test_an_objection_says_only_what_a_sentence_is_false_of() -> None:
    logits, overlap = drawn()
    overlap = overlap[:, :, 0]
    found = objection_losses(logits, overlap).detach()
    for row in range(3):
        for frame in range(2):
            at = row, frame
            expected = literal_objection(logits[at].tolist(), overlap[at].tolist())
            assert float(found[at]) == pytest.approx(expected, abs=1e-9)
    assert float(found[0, 0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("targets", [1, 3])
def test_gradients_are_right_and_stay_finite(targets: int) -> None:
    logits, overlap = drawn(targets)
    absent = torch.zeros(3, 2, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: choice_losses(x, overlap, absent), logits)
    assert torch.autograd.gradcheck(lambda x: objection_losses(x, overlap.amax(2)), logits)
    sure = torch.tensor([[[200.0, -200.0, -200.0]]], requires_grad=True)
    objection_losses(sure, torch.tensor([[[0.9, 0.1]]])).sum().backward()
    assert sure.grad is not None and sure.grad.isfinite().all()
