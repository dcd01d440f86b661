"""Models that take a video get one, with the times of its frames, through their real processors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import CheckpointError
from pipeline.ports import CaptionRequest
from stages.augment.captioner import ModelCaptioner
from tests.fakes.captioner_models import write_captioner
from tests.stages.augment.test_checkpoint import load, requests

KINDS = ("qwen2_5_vl", "qwen3_vl", "smolvlm")
TIMES = (0.0, 1.5, 3.0, 4.5)


def videos() -> list[CaptionRequest]:
    """Two sentences of one video of four frames."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 80, 3), dtype=np.uint8) for _ in TIMES]
    return [replace(item, images=images, times=TIMES) for item in requests()]


@pytest.fixture(scope="module", params=KINDS)
def captioner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ModelCaptioner:
    folder = write_captioner(request.param, tmp_path_factory.mktemp(request.param))
    return load(folder, input="video", max_new_tokens=16)


def prompt_of(captioner: ModelCaptioner, request: CaptionRequest) -> str:
    text: str = captioner._processor.tokenizer.decode(captioner._inputs([request])["input_ids"][0])
    return text


def test_the_model_is_told_when_frames_are_shown(captioner: ModelCaptioner) -> None:
    [first, _] = videos()
    inputs, text = captioner._inputs([first]), prompt_of(captioner, first)
    kind = captioner._model.config.model_type
    if kind == "qwen2_5_vl":
        # Two frames share a step of the grid.
        assert float(inputs["second_per_grid_ts"][0]) == pytest.approx(3.0, abs=0.01)
        slower = replace(first, times=[2 * time for time in TIMES])
        ids = captioner._inputs([slower])
        assert float(ids["second_per_grid_ts"][0]) == pytest.approx(6.0, abs=0.01)
    elif kind == "qwen3_vl":
        assert "<0.8 seconds>" in text and "<3.8 seconds>" in text
    elif kind == "smolvlm":
        assert all(f"Frame from 00:{second:02}:" in text for second in (0, 1, 3, 4))
        assert "four frames from a 0:00:04" in text
    if kind.startswith("qwen"):
        assert inputs["video_grid_thw"][0, 0] == 2
        assert "pixel_values" not in inputs


def test_batches_and_shared_frames_change_no_answer(captioner: ModelCaptioner) -> None:
    both = videos()
    alone = [captioner.answers([request])[0] for request in both]
    shared = captioner.shared_frames(both)
    for together in (captioner.answers(both), captioner.answers(both, frames=shared)):
        for one, other in zip(alone, together, strict=True):
            assert one.tokens == other.tokens
            np.testing.assert_allclose(one.log_probability, other.log_probability, atol=1e-3)
    assert any(shared._read.values()), "the frames were read once"


def test_any_number_of_frames_will_do(captioner: ModelCaptioner) -> None:
    [first, _] = videos()
    for times in ((0.0,), (0.0, 0.0), (2.0, 2.5, 7.0)):
        inputs = captioner._inputs([replace(first, images=first.images[: len(times)], times=times)])
        assert inputs["input_ids"].shape[1] > 100


def test_frames_are_not_shared_where_a_video_has_more_seconds_than_its_text_has_tokens(
    captioner: ModelCaptioner,
) -> None:
    if captioner._model.config.model_type != "qwen2_5_vl":
        return
    images = videos()[0].images
    long = [replace(item, images=images, times=(0.0, 1.0, 2.0, 9e3)) for item in videos()]
    shared = captioner.shared_frames(long)
    texts = captioner._texts(long)
    assert shared.inputs(texts, long) is None


def test_a_model_of_images_alone_is_refused_and_named(tmp_path: Path) -> None:
    folder = write_captioner("gemma3", tmp_path)
    with pytest.raises(CheckpointError, match="images alone; expected one that takes videos"):
        load(folder, input="video")


def test_loose_images_are_no_video(captioner: ModelCaptioner) -> None:
    [first, _] = videos()
    loose = replace(first, times=())
    names = set(captioner._inputs([loose]))
    assert "pixel_values" in names and not any("video" in name for name in names)
    pictures = [Image.fromarray(image) for image in first.images]
    expected = captioner._processor.image_processor(images=pictures, return_tensors="pt")
    shape = captioner._inputs([loose])["pixel_values"].shape
    assert np.prod(shape) == np.prod(expected["pixel_values"].shape)
