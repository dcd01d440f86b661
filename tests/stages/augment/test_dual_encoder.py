"""Tiny CLIP, SigLIP, SigLIP 2 and X-CLIP measure sentences as they do by themselves."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModel, AutoProcessor

from pipeline.config import AugmentConfig
from pipeline.errors import CheckpointError, ConfigError
from stages.augment.dual_encoder import DualEncoder, load_dual_encoder
from tests.fakes.dual_encoders import KINDS, write_encoder

CPU = torch.device("cpu")
TEXTS = ["the red square", "a blue circle on the left", "the square of a circle"]


def load(folder: Path, **changes: object) -> DualEncoder:
    values = {"similarity": "encoder", "similarity_checkpoint": str(folder)} | changes
    return load_dual_encoder(AugmentConfig.model_validate(values), CPU)


def frames(count: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (40, 64, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_are_those_of_the_model_itself(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(kind, tmp_path)
    images = frames(4)
    found = load(folder).cosines(images, TEXTS)
    assert found.shape == (3,)
    assert found.std() > 0.01, "the random model tells sentences apart"
    model, processor = (
        AutoModel.from_pretrained(folder).eval(),
        AutoProcessor.from_pretrained(folder),
    )
    pictures = [Image.fromarray(image) for image in images]
    padding = "max_length" if kind.startswith("siglip") else True
    words = processor.tokenizer(
        TEXTS, padding=padding, max_length=12, truncation=True, return_tensors="pt"
    )
    seen = processor.image_processor(images=pictures, return_tensors="pt")
    if kind == "xclip" and seen["pixel_values"].ndim == 4:
        seen["pixel_values"] = seen["pixel_values"][None]
    if padding == "max_length":
        words = {"input_ids": words["input_ids"]}
    with torch.inference_mode():
        out = model(**{name: words[name] for name in words if name != "token_type_ids"}, **seen)
    if kind == "xclip":
        expected = out.logits_per_video[0] / model.logit_scale.detach().exp()
    else:
        # The mean of the frames, each of length 1.
        mean = out.image_embeds.mean(0)
        expected = out.text_embeds @ (mean / mean.norm())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "xclip"])
def test_batches_change_nothing_and_any_number_of_frames_will_do(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(kind, tmp_path)
    together, alone = load(folder), load(folder, batch_texts=1)
    for count in (1, 3, 7):
        one = together.cosines(frames(count), TEXTS)
        np.testing.assert_allclose(alone.cosines(frames(count), TEXTS), one, atol=1e-5)


def test_a_sentence_that_is_cut_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = load(write_encoder("clip", tmp_path))
    with caplog.at_level(logging.WARNING):
        encoder.cosines(frames(1), TEXTS)
        assert not caplog.records
        encoder.cosines(frames(1), ["the red square " * 10])
    assert "1 sentences are longer than the 12 tokens" in caplog.text


def test_folders_of_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"a model of type bert; expected .*clip, siglip"):
        load(tmp_path)


def test_an_encoder_needs_its_checkpoint() -> None:
    from pipeline.config import load_config

    with pytest.raises(ConfigError, match="similarity 'encoder' needs similarity_checkpoint"):
        load_config(None, ["augment.similarity=encoder"])
