"""Fused attention against the one that segment-anything writes out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.modeling.image_encoder import Attention

from pipeline.config import SegmentConfig
from pipeline.fingerprint import digest
from stages.segment import attention
from stages.segment.attention import FusedAttention, fuse_attention
from stages.segment.segmenter import load_segmenter


def made(side: int, rel_pos: bool = True) -> Attention:
    torch.manual_seed(5)
    block = Attention(48, 3, use_rel_pos=rel_pos, input_size=(side, side)).eval()
    with torch.no_grad():
        for name, weight in block.named_parameters():
            if "rel_pos" in name:
                weight.normal_(0, 1)
    return block


@pytest.mark.parametrize("room", [1, 3 * 2 * 49 * 7 * 2, 1 << 22])
@torch.inference_mode()
def test_rows_of_queries_in_parts_of_any_size_give_the_same(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(attention.BIAS_ELEMENTS, "cpu", room)
    explicit, tokens = made(7), torch.randn(2, 7, 7, 48)
    expected = explicit(tokens)
    torch.testing.assert_close(FusedAttention(explicit)(tokens), expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_the_relative_positions_matter_and_down_is_not_across() -> None:
    explicit, tokens = made(7), torch.randn(1, 7, 7, 48)
    expected = FusedAttention(explicit)(tokens)
    swapped = FusedAttention(explicit)
    swapped.rel_pos_h, swapped.rel_pos_w = swapped.rel_pos_w, swapped.rel_pos_h
    assert (swapped(tokens) - expected).abs().max() > 0.01


@torch.inference_mode()
def test_without_relative_positions() -> None:
    explicit, tokens = made(6, rel_pos=False), torch.randn(2, 6, 6, 48)
    torch.testing.assert_close(
        FusedAttention(explicit)(tokens), explicit(tokens), rtol=1e-5, atol=1e-5
    )


@torch.inference_mode()
def test_the_demo_model_agrees_and_keeps_its_names(small_sam: Any) -> None:
    fused = copy.deepcopy(small_sam)
    fuse_attention(fused)
    assert all(isinstance(block.attn, FusedAttention) for block in fused.image_encoder.blocks)
    assert list(fused.state_dict()) == list(small_sam.state_dict())
    side = small_sam.image_encoder.img_size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = small_sam.image_encoder(images)
    torch.testing.assert_close(fused.image_encoder(images), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1, "the random model says something"


def test_the_option_chooses(small_sam: Any, tmp_path: Path) -> None:
    save_file(small_sam.state_dict(), tmp_path / "model.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    found = {}
    for name in ("sdpa", "explicit"):
        config = SegmentConfig(checkpoint=str(tmp_path), attention=name)
        loaded = load_segmenter(config, torch.device("cpu"))
        model: Any = loaded._model
        blocks = model.sam.image_encoder.blocks
        assert isinstance(blocks[0].attn, FusedAttention) == (name == "sdpa")
        found[name], _ = loaded.embed([image])
    torch.testing.assert_close(found["sdpa"], found["explicit"], rtol=1e-4, atol=1e-4)


def test_a_fingerprint_does_not_tell_them_apart() -> None:
    from flows.planning.fingerprints import segment_basis
    from pipeline.config import load_config

    both = [load_config(None, [f"segment.attention={name}"]) for name in ("sdpa", "explicit")]
    first, second = (digest(segment_basis(config, lambda _: "x")) for config in both)
    assert both[0] != both[1] and first == second


@pytest.mark.slow
@torch.inference_mode()
def test_the_full_size_model_agrees() -> None:
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]().eval()
    for name, weight in sam.image_encoder.named_parameters():
        if "rel_pos" in name or name.endswith("pos_embed"):
            weight.normal_(0, 0.1)
    images = torch.randn(1, 3, 1024, 1024)
    expected = sam.image_encoder(images)
    fuse_attention(sam)
    found = sam.image_encoder(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
