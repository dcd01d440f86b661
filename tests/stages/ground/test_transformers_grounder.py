"""Grounders of transformers give the boxes and scores that their own classes give."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from pipeline.config import GroundConfig
from pipeline.errors import CheckpointError, ConfigError
from pipeline.types import Boxes
from stages.ground.detectors import sentence_of_token
from stages.ground.grounder import load_grounder, load_model
from stages.ground.ranked import in_captions
from tests.fakes.grounding_models import KINDS, STOP, write_grounder

CPU = torch.device("cpu")
TEXTS = ["the red circle", "a small blue square on the left", "circle"]
SIZE = {"short_side": 64, "long_side": 128}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grounder(request.param, tmp_path_factory.mktemp(request.param))


def load(folder: Path, **changes: Any) -> Any:
    values = {"backbone": "transformers", "checkpoint": str(folder), "score": "max"} | SIZE
    return load_grounder(GroundConfig.model_validate(values | changes), CPU)


def frames(count: int, height: int = 64, width: int = 100) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def best(boxes: Boxes, text: int) -> tuple[NDArray[np.float32], float]:
    row = int(np.flatnonzero((boxes.text == text) & (boxes.rank == 0))[0])
    return boxes.xyxy[row], float(boxes.score[row])


@lru_cache(maxsize=1)
def loaded(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    return model, AutoProcessor.from_pretrained(folder)


def own(folder: Path, image: NDArray[np.uint8], caption: str) -> tuple[Any, torch.Tensor]:
    """What the class and its processor give for one caption, and the ids of its tokens."""
    model, processor = loaded(folder)
    picture, tokenizer = Image.fromarray(image), processor.tokenizer
    if model.config.model_type == "owlv2":
        words = tokenizer([caption], padding="max_length", max_length=16, return_tensors="pt")
        seen = processor.image_processor(images=picture, return_tensors="pt")
    else:
        words = tokenizer([caption], return_tensors="pt")
        size = {"shortest_edge": 64, "longest_edge": 128}
        seen = processor.image_processor(images=picture, size=size, return_tensors="pt")
    names = ("input_ids", "attention_mask")
    with torch.inference_mode():
        return model(**{name: words[name] for name in names}, **seen), words["input_ids"]


@pytest.mark.parametrize("size", [(64, 100), (100, 64)], ids=["landscape", "portrait"])
def test_boxes_and_scores_are_those_of_the_model_itself(
    folder: Path, size: tuple[int, int]
) -> None:
    images = frames(2, *size)
    grounder = load(folder, joint=1)
    found = grounder.ground(grounder.embed(images), TEXTS)
    assert len(found) == 2
    height, width = size
    whole = folder.name.startswith("owlv2")
    scale = np.array([max(size)] * 4 if whole else [width, height, width, height])
    for image, boxes in zip(images, found, strict=True):
        for row, text in enumerate(TEXTS[:2]):
            out, ids = own(folder, image, text if whole else f"{text}.")
            # Neither the start, the full stop nor the end is a word.
            words = out.logits[0, :, 1 : ids.shape[1] - 2]
            logits = out.logits[0, :, 0] if whole else words.amax(-1)
            place = int(logits.argmax())
            x, y, w, h = out.pred_boxes[0, place].tolist()
            corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1) * scale
            corners = np.minimum(corners, [width, height, width, height])
            xyxy, score = best(boxes, row)
            assert score == pytest.approx(float(logits[place].sigmoid()), abs=1e-4)
            np.testing.assert_allclose(xyxy, corners, atol=0.05)
    scores = [best(boxes, row)[1] for boxes in found for row in range(3)]
    assert np.std(scores) > 1e-4, "the random model tells frames and sentences apart"


@pytest.mark.parametrize("kind", KINDS[:2])
def test_sentences_of_a_pass_have_scores_of_their_own_words(kind: str, tmp_path: Path) -> None:
    folder = write_grounder(kind, tmp_path)
    [image] = frames(1)
    grounder = load(folder, joint=3)
    [boxes] = grounder.ground(grounder.embed([image]), TEXTS)
    out, ids = own(folder, image, ". ".join(TEXTS) + ".")
    stops = np.flatnonzero(ids[0].numpy() == STOP)
    for row, (start, end) in enumerate(zip([1, *stops[:-1] + 1], stops, strict=True)):
        expected = float(out.logits[0, :, start:end].amax().sigmoid())
        assert best(boxes, row)[1] == pytest.approx(expected, abs=1e-4)


def test_frames_are_encoded_once_and_batches_change_nothing(folder: Path) -> None:
    images = frames(3)
    grounder = load(folder, joint=2, batch_frames=2, batch_pairs=5)
    seen: list[int] = []
    model = grounder._detector._model
    encoder = model.owlv2.vision_model if hasattr(model, "owlv2") else model.model.backbone.backbone
    encoder.register_forward_hook(lambda *_: seen.append(1))
    embedding = grounder.embed(images)
    once = grounder.ground(embedding, TEXTS)
    grounder.ground(embedding, TEXTS[:1])
    assert len(seen) == 2
    alone = load(folder, joint=2, batch_frames=1, batch_pairs=1)
    for image, found in zip(images, once, strict=True):
        [expected] = alone.ground(alone.embed([image]), TEXTS)
        np.testing.assert_array_equal(found.text, expected.text)
        np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=0.05)
    assert [len(item) for item in grounder.ground(embedding, [])] == [0, 0, 0]


def test_what_is_longer_than_a_model_reads_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grounder = load(folder)
    with caplog.at_level(logging.WARNING):
        [boxes] = grounder.ground(grounder.embed(frames(1)), ["red " * 30, "circle"])
    assert "of the 3" in caplog.text and "shorten the sentence" in caplog.text
    assert set(boxes.text.tolist()) == {0, 1}


def test_tokens_belong_to_sentences() -> None:
    special = torch.tensor([101, 102, STOP, 1029])
    ids = torch.tensor([[101, 7, 8, STOP, 9, STOP, 102], [101, 7, STOP, 102, 0, 0, 0]])
    found = sentence_of_token(ids, special, STOP)
    assert found.tolist() == [[-1, 0, 0, -1, 1, -1, -1], [-1, 0, -1, -1, -1, -1, -1]]


def test_captions_hold_what_fits() -> None:
    assert in_captions([3, 3, 3, 9, 2], 8, 2) == [[0, 1], [2], [3], [4]]
    assert in_captions([], 8, 2) == []


def test_folders_of_other_models_and_settings_of_the_package_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match=r"a model of type bert; expected .*owlv2"):
        load(tmp_path)
    for setting in ({"text_encoder": "bert"}, {"adapter": "a"}, {"compile": True}):
        with pytest.raises(ValueError, match="belongs to groundingdino's own model"):
            load(tmp_path, **setting)
    config = GroundConfig.model_validate({"backbone": "transformers", "checkpoint": str(tmp_path)})
    assert (config.score, config.short_side, config.long_side) == ("best", 800, 1333)
    with pytest.raises(ConfigError, match="students grounded and groprompt"):
        load_model(config, CPU)
