"""Half precision hardly changes masks, and more the farther embeddings lie from 0."""

from __future__ import annotations

import torch

from benchmarks.precision import SHIFTS, compared, rounded


def test_rounding_grows_with_the_distance_from_0() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(1, 8, 4, 4)
    errors = [
        float((rounded(embedding, shift, torch.bfloat16) - embedding).abs().mean())
        for shift in SHIFTS
    ]
    assert errors == sorted(errors)
    assert errors[0] < 0.002
    assert errors[-1] > 10 * errors[0]


def test_masks_in_half_precision_are_those_of_float32() -> None:
    found = {name: (iou, far) for name, iou, far in compared(2, "bfloat16")}
    for name in ("encoder and decoder", "decoder, shifted by 0", "decoder, shifted by 4"):
        iou, far = found[name]
        assert iou.min() > 0.95
        assert 0 < far < 0.02
    assert found["decoder, shifted by 64"][1] > found["decoder, shifted by 0"][1]
