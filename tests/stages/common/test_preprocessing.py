from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import InputError
from stages.common.preprocessing import _statistics, normalise_frames


def test_frames_are_normalised_for_training_too_once_they_were_for_inference() -> None:
    frames = torch.arange(2 * 24 * 32 * 3).remainder(251).byte().reshape(2, 24, 32, 3)
    _statistics.cache_clear()
    with torch.inference_mode():
        expected = normalise_frames(frames, 24, 96)
    found, layer = normalise_frames(frames, 24, 96), nn.Conv2d(3, 1, 3)
    layer(found).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    by_hand = ((frames.float() / 255 - mean) / std).permute(0, 3, 1, 2)
    assert torch.equal(found, expected.clone()) and torch.equal(found, by_hand)


def test_frames_that_are_too_narrow_are_named() -> None:
    with pytest.raises(InputError, match="2000 x 1 pixels: too narrow"):
        normalise_frames(torch.zeros(1, 2000, 1, 3, dtype=torch.uint8), 24, 96)
