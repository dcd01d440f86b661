"""Cross-frame segmentation against eqs 7 to 9 written out, and its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stages.student.simrvos.lgcfs import cross_frame_logits, cross_frame_losses, cross_frame_pairs
from stages.student.simrvos.model import DYNAMIC_CHANNELS, filter_sizes
from tests.fakes.student import CHANNELS, tiny_model


def drawn(frames: int, channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(frames, channels, 3, 4, generator=rng, dtype=torch.float64)
    theta = torch.randn(frames, sum(filter_sizes(channels)), generator=rng, dtype=torch.float64)
    return features, theta


def literal_logit(features: Tensor, theta: Tensor, t: int, tau: int, y: int, x: int) -> float:
    """Eq 7 at one cell: the two 1 x 1 convolutions that frame tau's theta holds, on frame t."""
    channels, height, width = features.shape[1:]
    values = [float(features[t, c, y, x]) for c in range(channels)]
    values += [-1 + 2 * x / (width - 1), -1 + 2 * y / (height - 1)]
    numbers = iter(theta[tau].tolist())
    weights = [[next(numbers) for _ in values] for _ in range(DYNAMIC_CHANNELS)]
    biases = [next(numbers) for _ in range(DYNAMIC_CHANNELS)]
    last = [next(numbers) for _ in range(DYNAMIC_CHANNELS)]
    result = next(numbers)
    assert next(numbers, None) is None
    for row, bias, factor in zip(weights, biases, last, strict=True):
        inner = sum(w * value for w, value in zip(row, values, strict=True))
        result += factor * max(0.0, inner / math.sqrt(len(values)) + bias)
    return result


def test_the_logits_are_equation_7() -> None:
    features, theta = drawn(3, 5)
    found = cross_frame_logits(features, theta)
    assert found.shape == (3, 3, 3, 4)
    for t in range(3):
        for tau in range(3):
            for y in range(3):
                for x in range(4):
                    expected = literal_logit(features, theta, t, tau, y, x)
                    # The coordinates are float32, as in the model.
                    assert float(found[t, tau, y, x]) == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_a_frames_own_filters_give_the_models_own_mask() -> None:
    model = tiny_model()
    features = torch.randn(4, CHANNELS, 5, 6)
    theta = torch.randn(4, sum(filter_sizes(CHANNELS)))
    crossed = cross_frame_logits(features, theta)
    own = model.segment(features, theta)
    torch.testing.assert_close(crossed.diagonal().permute(2, 0, 1), own, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(crossed[0, 1], own[0], atol=1e-2)


def test_the_pairs_are_every_other_frame_of_the_clip() -> None:
    features, theta = drawn(4, 3)
    logits, frame = cross_frame_pairs(features, theta)
    every = cross_frame_logits(features, theta)
    wanted = [(t, tau) for t in range(4) for tau in range(4) if t != tau]
    assert frame.tolist() == [t for t, _ in wanted]
    for row, (t, tau) in enumerate(wanted):
        assert torch.equal(logits[row], every[t, tau])


def test_a_clip_of_one_frame_has_no_pairs() -> None:
    features, theta = drawn(1, 3)
    logits, frame = cross_frame_pairs(features, theta)
    assert logits.shape == (0, 3, 4) and frame.shape == (0,)
    assert cross_frame_losses(logits.sum((1, 2)), frame, 1).tolist() == [0.0]


def test_a_frames_losses_are_summed_and_not_averaged() -> None:
    features, theta = drawn(3, 3)
    _, frame = cross_frame_pairs(features, theta)
    each = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert cross_frame_losses(each, frame, 3).tolist() == [3.0, 12.0, 48.0]


def test_the_gradient_reaches_the_features_of_t_and_the_filters_of_tau() -> None:
    features, theta = (value.requires_grad_() for value in drawn(3, 2))

    def loss(features: Tensor, theta: Tensor) -> Tensor:
        logits, frame = cross_frame_pairs(features, theta)
        return cross_frame_losses(logits.sigmoid().mean((1, 2)), frame, 3)

    assert torch.autograd.gradcheck(loss, (features, theta))
    logits, frame = cross_frame_pairs(features, theta)
    cross_frame_losses(logits.sigmoid().mean((1, 2)), frame, 3)[1].backward()
    assert features.grad is not None and theta.grad is not None
    assert [bool(part.any()) for part in features.grad] == [False, True, False]
    assert [bool(part.any()) for part in theta.grad] == [True, False, True]
