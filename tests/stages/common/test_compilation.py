"""Compiled encoders: fixed shapes, agreement, and errors in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.exc import Unsupported

from pipeline.config import GroundConfig, SegmentConfig
from pipeline.errors import ConfigError
from stages.common.compilation import compiled, padded
from stages.ground.grounder import load_grounder
from stages.segment import box_model
from stages.segment.segmenter import SamSegmenter, load_segmenter


def test_a_batch_is_filled_up_with_its_last() -> None:
    assert padded([1, 2], 4) == [1, 2, 2, 2]
    assert padded([1, 2], 2) == [1, 2]


def test_what_does_not_compile_says_what_to_set() -> None:
    with (
        pytest.raises(ConfigError, match=r"segment\.compile=true.*no such luck.*compile=false"),
        compiled("segment.compile"),
    ):
        raise Unsupported("no such luck\nand much more")
    with pytest.raises(RuntimeError, match="out of memory"), compiled("segment.compile"):
        raise RuntimeError("out of memory")


def test_a_compiled_encoder_sees_batches_of_one_size_only(
    small_sam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    real = box_model.encode_frames

    def spy(sam: Any, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return real(sam, images)

    monkeypatch.setattr(box_model, "encode_frames", spy)
    images = list(np.random.default_rng(0).integers(0, 256, (5, 36, 64, 3), dtype=np.uint8))
    plain, _ = SamSegmenter(small_sam, SegmentConfig(batch_frames=2)).embed(images)
    assert sizes == [2, 2, 1]
    sizes.clear()
    filled, _ = SamSegmenter(small_sam, SegmentConfig(batch_frames=2, compile=True)).embed(images)
    assert sizes == [2, 2, 2]
    torch.testing.assert_close(filled, plain, rtol=1e-5, atol=1e-5)


def compiles_here() -> bool:
    try:
        with compiled("segment.compile"):
            torch.compile(lambda x: x * 2 + 1, fullgraph=True)(torch.ones(3))
    except ConfigError:
        return False
    return True


@pytest.mark.slow
def test_the_compiled_demo_encoders_agree() -> None:
    if not compiles_here():
        pytest.skip("no working C++ compiler for torch.compile")
    images = list(np.random.default_rng(0).integers(0, 256, (3, 72, 128, 3), dtype=np.uint8))
    device = torch.device("cpu")
    plain, _ = load_segmenter(SegmentConfig(), device).embed(images)
    config = SegmentConfig(compile=True, batch_frames=2)
    torch.testing.assert_close(
        load_segmenter(config, device).embed(images)[0], plain, rtol=1e-3, atol=1e-4
    )
    grounder = load_grounder(GroundConfig(compile=True, batch_frames=2), device)
    expected, _ = load_grounder(GroundConfig(), device).embed(images)
    found, _ = grounder.embed(images)
    assert len(found) == len(expected) == 3
    for one, other in zip(found.maps, expected.maps, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
