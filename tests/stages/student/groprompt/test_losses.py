"""The losses of GroPrompt against their equations written out number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.student.groprompt.losses import box_loss, modal_contrast, score_loss, text_contrast


def boxes(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = 0.3 + 0.4 * torch.rand(*size, 2, generator=generator, dtype=torch.float64)
    sides = 0.1 + 0.3 * torch.rand(*size, 2, generator=generator, dtype=torch.float64)
    return torch.cat([centre, sides], -1)


def literal_box_loss(box: list[float], truth: list[float]) -> float:
    def corners(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2

    a, b = corners(*box), corners(*truth)
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(
        0.0, min(a[3], b[3]) - max(a[1], b[1])
    )
    union = box[2] * box[3] + truth[2] * truth[3] - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    giou = shared / union - (hull - union) / hull
    return 5 * sum(abs(x - y) for x, y in zip(box, truth, strict=True)) + 2 * (1 - giou)


def test_a_boxs_loss_is_eq_1() -> None:
    found, truth = boxes(3, 4), boxes(3, 4, seed=1)
    loss = box_loss(found, truth)
    for row in range(3):
        for frame in range(4):
            expected = literal_box_loss(found[row, frame].tolist(), truth[row, frame].tolist())
            assert float(loss[row, frame]) == pytest.approx(expected, rel=1e-6)
    assert float(box_loss(found, found).abs().max()) < 1e-4


def test_a_score_is_to_be_1_of_the_nearest_box_and_0_of_others() -> None:
    found, truth = boxes(4, 3, seed=8), boxes(4, seed=9)
    scores = torch.rand(4, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    known = torch.tensor([True, False, True, True])
    loss = score_loss(scores, found, truth, known)
    for row in range(4):
        distance = [sum(abs(found[row, q] - truth[row]).tolist()) for q in range(3)]
        expected = 0.0
        for q, chance in enumerate(scores[row].tolist()):
            if known[row] and distance[q] == min(distance):
                expected -= 0.25 * (1 - chance) ** 2 * math.log(chance)
            else:
                expected -= 0.75 * chance**2 * math.log(1 - chance)
        assert float(loss[row]) == pytest.approx(expected, rel=1e-9)
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: score_loss(x, found, truth, known), scores)


def test_text_contrast_is_eq_2() -> None:
    generator = torch.Generator().manual_seed(2)
    prompts, truth = (torch.randn(3, 2, 5, generator=generator, dtype=torch.float64) for _ in "pt")
    apart = torch.rand(3, 3, 2, generator=generator) > 0.4
    found = text_contrast(prompts, truth, apart)
    for i in range(3):
        for t in range(2):
            terms = [
                max(
                    0.0,
                    math.dist(prompts[i, t], truth[i, t]) - math.dist(prompts[i, t], prompts[j, t]),
                )
                for j in range(3)
                if apart[i, j, t]
            ]
            expected = sum(terms) / len(terms) if terms else 0.0
            assert float(found[i, t]) == pytest.approx(expected, abs=1e-12)


def test_modal_contrast_is_eq_3() -> None:
    generator = torch.Generator().manual_seed(3)
    videos, sentences = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in "vs")
    apart = ~torch.eye(4, dtype=torch.bool)
    apart[2] = False
    found = modal_contrast(videos, sentences, apart)
    for i in range(4):
        own = math.dist(videos[i], sentences[i])
        terms = [
            max(0.0, own - math.dist(videos[i], sentences[j])) for j in range(4) if apart[i, j]
        ]
        expected = sum(terms) / len(terms) if terms else 0.0
        assert float(found[i]) == pytest.approx(expected, abs=1e-12)


def test_gradients_are_right() -> None:
    apart = ~torch.eye(3, dtype=torch.bool)
    found, truth = boxes(3, 2).requires_grad_(), boxes(3, 2, seed=5)
    assert torch.autograd.gradcheck(lambda x: box_loss(x, truth), found)
    each = apart[..., None].expand(-1, -1, 2)
    assert torch.autograd.gradcheck(lambda x: text_contrast(x, truth, each), found)
    videos, sentences = boxes(3, seed=6).requires_grad_(), boxes(3, seed=7).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, z: modal_contrast(f, z, apart), (videos, sentences))


def test_a_sentence_alone_is_told_from_nothing() -> None:
    prompts = boxes(1, 2).requires_grad_()
    loss = text_contrast(prompts, boxes(1, 2, seed=1), torch.zeros(1, 1, 2, dtype=torch.bool)).sum()
    loss.backward()
    assert loss.item() == 0 and torch.equal(prompts.grad, torch.zeros_like(prompts))
