"""Deformable attention as one sum against groundingdino's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention
from groundingdino.models.GroundingDINO.ms_deform_attn import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn_pytorch,
)
from safetensors.torch import save_file

from pipeline.config import EXECUTION, GroundConfig
from stages.demo.tokenizer import build_tokenizer
from stages.ground.architecture import encode_frames, encode_texts, run_transformer
from stages.ground.deformable import FusedDeformableAttention, fuse_deformable, sample_and_sum
from stages.ground.fusion import FoldedFusion, fold_fusion
from stages.ground.grounder import load_grounder

SHAPES = torch.tensor([[9, 14], [5, 7], [1, 3]])


@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0])
@torch.inference_mode()
def test_the_sum_equals_the_packages_samples(spread: float) -> None:
    made = torch.Generator().manual_seed(4)
    value = torch.randn(2, int(SHAPES.prod(1).sum()), 4, 8, generator=made)
    base = torch.rand(2, 11, 1, 1, 1, 2, generator=made)
    places = base + spread * torch.randn(2, 11, 4, 3, 5, 2, generator=made)
    places[0, 0] = torch.tensor([0.0, 1.0])
    places[0, 1] = torch.tensor([1e12, -1e12])
    weights = torch.rand(2, 11, 4, 3, 5, generator=made)
    expected = multi_scale_deformable_attn_pytorch(value, SHAPES, places, weights)
    found = sample_and_sum(value, SHAPES, places, weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found[0, 2:].std() > 0.1


@pytest.mark.parametrize(
    ("put", "ours", "theirs"),
    [
        (fuse_deformable, FusedDeformableAttention, MultiScaleDeformableAttention),
        (fold_fusion, FoldedFusion, BiMultiHeadAttention),
    ],
)
@torch.inference_mode()
def test_the_demo_model_agrees_and_keeps_its_names(
    small_dino: Any, put: Any, ours: type, theirs: type
) -> None:
    fused = copy.deepcopy(small_dino)
    put(fused)
    kinds = [type(module) for module in fused.modules()]
    assert ours in kinds and theirs not in kinds
    assert list(fused.state_dict()) == list(small_dino.state_dict())
    images = torch.randn(2, 3, 64, 112, generator=torch.Generator().manual_seed(2))
    captions = ["the red circle.", "a small blue star to the left of the green square."]
    found, expected = (
        run_transformer(model, encode_frames(model, images), encode_texts(model, captions))[-1]
        for model in (fused, small_dino)
    )
    torch.testing.assert_close(found.boxes, expected.boxes, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-3)


def test_the_option_chooses(small_dino: Any, tmp_path: Path) -> None:
    build_tokenizer().save_pretrained(tmp_path)
    tensors = {name: value.clone() for name, value in small_dino.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    frame = np.random.default_rng(5).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    found = {}
    for name in ("fused", "explicit"):
        config = GroundConfig(checkpoint=str(tmp_path), attention=name, joint=1, short_side=64)
        loaded = load_grounder(config, torch.device("cpu"))
        kinds = [type(module) for module in loaded._model.modules()]
        assert (FusedDeformableAttention in kinds) == (name == "fused")
        assert (FoldedFusion in kinds) == (name == "fused")
        [found[name]] = loaded.ground(loaded.embed([frame]), ["the red circle"])
    np.testing.assert_allclose(found["fused"].xyxy, found["explicit"].xyxy, atol=1e-5 * 128)
    np.testing.assert_allclose(found["fused"].score, found["explicit"].score, atol=1e-5)
    assert "attention" in EXECUTION
