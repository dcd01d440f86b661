"""The frames of a video are read once for all its sentences, by a model that really has frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from pipeline.config import AugmentConfig
from pipeline.errors import UnusableAnswerError
from pipeline.ports import CaptionRequest
from pipeline.shapes.render import render
from pipeline.types import Expression, SampleKey, VideoRef
from stages.augment import load_captioner
from stages.augment.captioner import ModelCaptioner
from stages.augment.prefix import rest_of
from stages.augment.vision import frame_token
from tests.fakes.captioner import FakeProcessor
from tests.fakes.student import two_scenes

TEXTS = ("the red circle", "the large star on the left side of the scene", "a square")


@pytest.fixture(scope="module")
def demo() -> ModelCaptioner:
    config = AugmentConfig(source="model", positives=6, batch_texts=2, minimum_similarity=0.0)
    captioner = load_captioner(config, torch.device("cpu"), 0, None)
    assert isinstance(captioner, ModelCaptioner)
    return captioner


def requests(video: int, texts: tuple[str, ...] = TEXTS) -> list[CaptionRequest]:
    images = [render(two_scenes()[video], time).image for time in (0, 5)]
    ref = VideoRef(f"v{video}", (), (), *images[0].shape[:2])
    keys = (SampleKey("shapes", "train", ref.id, str(row)) for row in range(len(texts)))
    return [
        CaptionRequest(ref, images, Expression(key, text))
        for key, text in zip(keys, texts, strict=True)
    ]


@pytest.fixture
def seen(demo: ModelCaptioner) -> Iterator[list[int]]:
    """Images that each pass of the vision encoder was given."""
    passes: list[int] = []

    def note(_: Any, args: Any, options: Any) -> None:
        passes.append(len(options["grid_thw"]))

    hook = demo._model.model.visual.register_forward_pre_hook(note, with_kwargs=True)
    yield passes
    hook.remove()


def test_frames_are_read_once_and_answers_are_those_of_each_alone(
    demo: ModelCaptioner, seen: list[int]
) -> None:
    one, other = requests(0), requests(1)
    frames = demo.shared_frames(one + other)
    together = [
        answer
        for batch in (one[:2], other[:2], one[2:], other[2:])
        for answer in demo.answers(batch, frames=frames)
    ]
    assert seen == [2, 2], "two frames a video, though its sentences make two batches"
    order = one[:2] + other[:2] + one[2:] + other[2:]
    alone = [demo.answers([request])[0] for request in order]
    for found, expected in zip(together, alone, strict=True):
        assert found.tokens == expected.tokens and len(found.tokens) > 10
        np.testing.assert_allclose(found.log_probability, expected.log_probability, atol=1e-4)


def test_nothing_is_inherited_from_the_checkpoints_generation_config(
    demo: ModelCaptioner,
) -> None:
    [expected] = demo.answers(requests(0)[:1])
    kept = demo._model.generation_config
    demo._model.generation_config = GenerationConfig(
        eos_token_id=kept.eos_token_id,
        repetition_penalty=5.0,
        no_repeat_ngram_size=2,
        do_sample=True,
        temperature=0.01,
        top_k=1,
        top_p=0.1,
    )
    again = ModelCaptioner(demo._model, demo._processor, demo._prompt, demo._config, "m", "r", 0)
    [found] = again.answers(requests(0)[:1])
    assert found.tokens == expected.tokens
    np.testing.assert_allclose(found.log_probability, expected.log_probability, atol=1e-6)


def test_what_is_not_shared_is_asked_in_one_pass(demo: ModelCaptioner, seen: list[int]) -> None:
    single = requests(0, TEXTS[:1])
    demo.answers(single, frames=demo.shared_frames(single))
    one, other = requests(0, TEXTS[:2]), requests(1, TEXTS[:2])
    demo.answers([one[0], other[0]], frames=demo.shared_frames(one + other))
    assert seen == [2, 4]


def test_a_call_shares_the_frames_of_its_requests(demo: ModelCaptioner, seen: list[int]) -> None:
    """As the stage makes it: one call a video; what does not parse is asked for again."""
    with suppress(UnusableAnswerError):
        demo.augment(requests(0))
    assert seen == [2]


def test_a_model_that_does_not_say_where_its_frames_are_shares_nothing() -> None:
    assert frame_token(FakeProcessor(), requests(0)[0]) is None
    assert rest_of(FakeProcessor(), "<image>text", None) is None
