"""SAM and HQ-SAM of transformers make the masks of segment-anything, and their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, SamHQModel

from pipeline.config import SegmentConfig
from pipeline.errors import CheckpointError, ConfigError
from stages.common.mask_resolution import low_resolution_size
from stages.segment.architecture import build_demo
from stages.segment.segmenter import SamSegmenter, load_sam, load_segmenter
from tests.fakes.sam_models import of_package, write_hq_sam, write_sam
from tests.stages.segment.test_segmenter import boxes_in, frames

CPU = torch.device("cpu")
SIZES = {"landscape": (72, 128), "portrait": (150, 90)}


@pytest.fixture(scope="module")
def sam() -> Any:
    """The demo model with windows alone, as transformers' configuration below has it."""
    torch.manual_seed(1)
    model = build_demo().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "rel_pos" in name or name.endswith("pos_embed"):
                weight.normal_(0, 0.2)
    return model


@pytest.fixture(scope="module")
def folder(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam(of_package(sam), tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def refined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hq_sam(tmp_path_factory.mktemp("sam_hq"))


def load(folder: Path, **changes: Any) -> SamSegmenter:
    values = {"model": "transformers", "checkpoint": str(folder), "merge_iou": 1.0}
    return load_segmenter(SegmentConfig.model_validate(values | changes), CPU)


@pytest.mark.parametrize("size", list(SIZES.values()), ids=list(SIZES))
@pytest.mark.parametrize("attention", ["sdpa", "explicit"])
def test_masks_are_those_of_the_package_with_the_same_weights(
    sam: Any, folder: Path, size: tuple[int, int], attention: str
) -> None:
    images = frames(3, *size)
    asked = [boxes_in(count, *size, seed=count) for count in (4, 0, 2)]
    theirs = SamSegmenter(sam, SegmentConfig(merge_iou=1.0))
    mine = load(folder, attention=attention, batch_pairs=3, batch_frames=2)
    for expected, found in zip(
        theirs.decode(theirs.embed(images), asked),
        mine.decode(mine.embed(images), asked),
        strict=True,
    ):
        assert found.logits.shape == expected.logits.shape
        np.testing.assert_allclose(found.logits, expected.logits, atol=2e-3)
        np.testing.assert_allclose(found.predicted_iou, expected.predicted_iou, atol=1e-4)
        assert (found.box_row == expected.box_row).all()


# Of the input's own size, since the processor's resize rounds pixels otherwise.
@pytest.mark.parametrize("size", [(288, 512), (512, 300)], ids=list(SIZES))
def test_hq_sam_gives_what_transformers_itself_gives(refined: Path, size: tuple[int, int]) -> None:
    images, boxes = frames(2, *size), boxes_in(3, *size)
    segmenter = load(refined)
    found = segmenter.decode(segmenter.embed(images), [boxes, boxes[:1]])
    model = SamHQModel.from_pretrained(refined).eval()
    processor = AutoProcessor.from_pretrained(refined)
    rows, columns = low_resolution_size(*size, 512)
    for image, mine, asked in zip(images, found, (boxes, boxes[:1]), strict=True):
        inputs = processor(
            images=Image.fromarray(image), input_boxes=[asked.tolist()], return_tensors="pt"
        )
        with torch.inference_mode():
            out = model(
                pixel_values=inputs["pixel_values"],
                input_boxes=inputs["input_boxes"].float(),
                multimask_output=False,
            )
        expected = out.pred_masks[0, :, 0, :rows, :columns].numpy()
        np.testing.assert_allclose(mine.logits, expected, atol=2e-3)
        np.testing.assert_allclose(
            mine.predicted_iou, out.iou_scores[0, :, 0].clamp(0, 1), atol=1e-4
        )


def test_half_precision_is_of_the_encoder_and_the_decoder(refined: Path) -> None:
    images, boxes = frames(1, 72, 128), boxes_in(3, 72, 128)
    whole, half = load(refined), load(refined, dtype="bfloat16")
    [one] = whole.decode(whole.embed(images), [boxes])
    embedding, _ = half.embed(images)
    assert embedding.dtype == torch.bfloat16
    [other] = half.decode((embedding, (72, 128)), [boxes])
    assert np.isfinite(other.logits).all()
    assert np.abs(one.logits - other.logits).mean() < 0.1 * np.abs(one.logits).mean()


def test_folders_of_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"model_type": "sam2"}))
    with pytest.raises(CheckpointError, match=r"a model of type sam2; expected .*sam or sam_hq"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="sha256"):
        load(folder, sha256="0" * 64)
    (tmp_path / "weights.pth").touch()
    with pytest.raises(CheckpointError, match="a file; expected a folder of transformers"):
        load(tmp_path / "weights.pth")


def test_groprompt_says_that_it_needs_the_package(folder: Path) -> None:
    config = SegmentConfig(model="transformers", checkpoint=str(folder))
    with pytest.raises(ConfigError, match="segment-anything's own model"):
        load_sam(config, CPU)
