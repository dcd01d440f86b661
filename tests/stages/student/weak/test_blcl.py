"""Bi-level contrastive learning against eqs 10 to 18 written out key by key."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from stages.student.weak.blcl import (
    ContrastiveFeatures,
    Levels,
    Regions,
    blcl_loss,
    blcl_losses,
    contrast,
    regions_of_boxes,
    regions_of_masks,
)

Key = tuple[float, list[float]]
"""Weight and feature of a cell."""


def keys(features: Tensor, member: Tensor, weight: Tensor) -> list[Key]:
    frames, _, height, width = features.shape
    return [
        (float(weight[t]), features[t, :, y, x].tolist())
        for t in range(frames)
        for y in range(height)
        for x in range(width)
        if member[t, y, x] and weight[t] > 0
    ]


def literal_contrast(
    query: list[float], positive: list[Key], negative: list[Key], balanced: bool = False
) -> float:
    def chance(key: list[float]) -> float:
        return 1 / (1 + math.exp(-sum(q * k for q, k in zip(query, key, strict=True))))

    alike = sum(-w * math.log(chance(key)) for w, key in positive)
    apart = sum(-w * math.log(1 - chance(key)) for w, key in negative)
    if balanced:
        return alike / max(1, len(positive)) + apart / max(1, len(negative))
    return (alike + apart) / max(1, len(positive) + len(negative))


def literal_mean(found: list[Key]) -> list[float]:
    whole = sum(weight for weight, _ in found)
    channels = len(found[0][1])
    return [sum(weight * key[c] for weight, key in found) / whole for c in range(channels)]


def literal_loss(
    sentence: Tensor,
    features: Tensor,
    regions: Regions,
    balanced: bool = False,
    levels: Levels = "both",
) -> float:
    foreground = keys(features, regions.foreground, regions.weight)
    background = keys(features, regions.background, regions.weight)
    total = 0.0
    if levels != "consistency":
        total = literal_contrast(sentence.tolist(), foreground, background, balanced)  # eq 15
    if levels == "language_vision":
        return total
    if foreground:  # eq 16
        total += literal_contrast(literal_mean(foreground), foreground, background, balanced)
    if background:  # eq 17
        total += literal_contrast(literal_mean(background), background, foreground, balanced)
    return total  # eq 18


def drawn(frames: int, seed: int = 0) -> tuple[Tensor, Tensor, Regions]:
    rng = torch.Generator().manual_seed(seed)
    sentence = torch.randn(3, generator=rng, dtype=torch.float64)
    features = torch.randn(frames, 3, 4, 5, generator=rng, dtype=torch.float64)
    kind = torch.randint(3, (frames, 4, 5), generator=rng)
    weight = torch.ones(frames, dtype=torch.float64)
    return sentence, features, Regions(kind == 0, kind == 1, weight)


def weighted(regions: Regions, *weight: float) -> Regions:
    found = torch.tensor(weight, dtype=torch.float64)
    return Regions(regions.foreground, regions.background, found)


@pytest.mark.parametrize("levels", get_args(Levels))
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.5), (0.0, 0.7, 0.0)])
def test_the_loss_of_a_clip_is_equations_14_to_18(
    weight: tuple[float, ...], balanced: bool, levels: Levels
) -> None:
    sentence, features, regions = drawn(3)
    regions = weighted(regions, *weight)
    found = blcl_loss(sentence, features, regions, levels=levels, balanced=balanced).item()
    expected = literal_loss(sentence, features, regions, balanced, levels)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_gradient_is_right() -> None:
    sentence, features, regions = drawn(2)
    regions = weighted(regions, 1.0, 0.5)
    assert torch.autograd.gradcheck(
        lambda s, f: blcl_loss(s, f, regions),
        (sentence.requires_grad_(), features.requires_grad_()),
    )


def test_clips_are_contrasted_each_with_itself() -> None:
    sentence, features, regions = drawn(5)
    sentences = torch.stack([sentence, sentence, -sentence, -sentence, -sentence])
    found = blcl_losses(sentences, features, regions, [2, 3])
    for row, (part, said) in enumerate(((slice(0, 2), sentence), (slice(2, 5), -sentence))):
        alone = Regions(regions.foreground[part], regions.background[part], regions.weight[part])
        assert float(found[row]) == pytest.approx(literal_loss(said, features[part], alone))


def test_without_target_or_background_the_rest_counts() -> None:
    sentence, features, regions = drawn(2)
    nowhere = torch.zeros_like(regions.foreground)
    for foreground, background in ((nowhere, ~nowhere), (~nowhere, nowhere), (nowhere, nowhere)):
        half = Regions(foreground, background, regions.weight)
        found = blcl_loss(sentence, features, half).item()
        assert found == pytest.approx(literal_loss(sentence, features, half), abs=1e-12)
    assert found == 0.0


def test_a_frame_of_weight_zero_and_ignored_cells_teach_nothing() -> None:
    sentence, features, regions = drawn(2)
    features.requires_grad_()
    blcl_loss(sentence, features, weighted(regions, 1.0, 0.0)).backward()
    assert features.grad is not None
    assert not features.grad[1].any()
    ignored = ~(regions.foreground[0] | regions.background[0])
    assert ignored.any() and not features.grad[0][:, ignored].any()
    assert features.grad[0][:, ~ignored].all()


def test_half_the_weight_is_half_the_loss() -> None:
    sentence, features, regions = drawn(2)
    whole = blcl_loss(sentence, features, weighted(regions, 1.0, 1.0)).item()
    half = blcl_loss(sentence, features, weighted(regions, 0.5, 0.5)).item()
    assert half == pytest.approx(whole / 2)


def test_sure_scores_stay_finite() -> None:
    _, features, regions = drawn(2)
    query = torch.full((3,), 1e3, dtype=torch.float64, requires_grad=True)
    loss = contrast(query, features, regions.background.double(), regions.foreground.double())
    loss.backward()
    assert loss.isfinite() and query.grad is not None and query.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_many_cells_fit_in_half_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 4, 200, 200).to(dtype)
    mask = torch.ones(2, 200, 200, dtype=torch.bool)
    mask[:, :40] = False
    regions = Regions(*regions_of_masks(mask), torch.ones(2))
    sentences = torch.rand(2, 4).to(dtype)
    whole = blcl_losses(sentences.float(), features.float(), regions, [2])
    with torch.autocast("cpu", dtype):
        found = blcl_losses(sentences, features, regions, [2])
    assert torch.equal(found, whole)


def test_masks_are_foreground_and_the_rest_background() -> None:
    mask = torch.tensor([[[True, False], [False, False]], [[False, False], [False, False]]])
    foreground, background = regions_of_masks(mask)
    assert torch.equal(foreground, mask) and torch.equal(background, ~mask)


def test_predictions_within_boxes_are_equations_12_and_13() -> None:
    chance = torch.tensor([[[0.95, 0.89, 0.5, 0.11, 0.05], [0.99, 0.5, 0.95, 0.3, 0.0]]])
    inside = torch.tensor([[[True] * 5, [False] * 5]])
    logits = chance.clamp(1e-4, 1 - 1e-4).logit().requires_grad_()
    foreground, background = regions_of_boxes(logits, inside, 0.9)
    assert foreground.tolist() == [[[True, False, False, False, False], [False] * 5]]
    assert background.tolist() == [[[False, False, False, False, True], [True] * 5]]
    assert not foreground.requires_grad


def test_the_features_and_what_comes_back_of_them() -> None:
    torch.manual_seed(0)
    layer = ContrastiveFeatures(8).double()
    pyramid = torch.randn(2, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    features, enhanced = layer(pyramid)
    assert features.shape == enhanced.shape == (2, 8, 3, 4)
    mixed = torch.cat([layer.carry(pyramid), layer.contrast(pyramid)], dim=1)
    first, _, second = layer.enhance
    torch.testing.assert_close(enhanced, second(first(mixed).relu()))
    enhanced.sum().backward()
    for name, weight in layer.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_learning_draws_the_sentence_to_the_target_and_away_from_the_rest() -> None:
    sentence, features, regions = drawn(3, seed=4)
    features.requires_grad_()
    optimiser = torch.optim.SGD([features], lr=5.0)
    for _ in range(60):
        optimiser.zero_grad()
        blcl_loss(sentence, features, regions).backward()
        optimiser.step()
    score = torch.einsum("c,tchw->thw", sentence, features.detach())
    assert score[regions.foreground].min() > 0 > score[regions.background].max()
