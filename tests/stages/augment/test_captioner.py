import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import AugmentConfig
from pipeline.errors import AugmentationError, CheckpointError, UnusableAnswerError
from pipeline.ports import CaptionRequest
from pipeline.types import Augmentation, Expression, SampleKey, VideoRef
from stages.augment.captioner import ModelCaptioner
from stages.augment.prompt import DEFAULT_PROMPT, NOUN_PROMPT, Prompt, load_prompt
from stages.augment.unanswered import ALONE
from tests.fakes.captioner import FakeModel, FakeProcessor

ANSWER = json.dumps(
    {
        "positives": [
            {"text": "the crimson star", "confidence": 0.8},
            {"text": "ZZZZ", "confidence": 0.7},
        ],
        "negatives": [{"text": "the blue star", "kind": "attribute"}],
    }
)


def request(text: str, row: int = 0, frames: int = 2) -> CaptionRequest:
    expression = Expression(SampleKey("shapes", "train", "v", str(row)), text)
    images = [np.full((8, 8, 3), shade, np.uint8) for shade in range(frames)]
    video = VideoRef("v", (), (), 8, 8)
    return CaptionRequest(video, images, expression, ("the blue square",))


def captioner(
    script: object = None, prompt: Prompt = DEFAULT_PROMPT, template: str = "", **changes: object
) -> tuple[ModelCaptioner, FakeProcessor, FakeModel]:
    processor = FakeProcessor()
    processor.chat_template = template
    model = FakeModel(
        processor,
        script or (lambda text, attempt: ANSWER),  # type: ignore[arg-type]
        lambda letter: 0.3 if letter == "Z" else 0.9,
    )
    config = AugmentConfig.model_validate({"source": "model", "positives": 6} | changes)
    return ModelCaptioner(model, processor, prompt, config, "fake", "abc", 7), processor, model


def augmented(stage: ModelCaptioner, *requests: CaptionRequest) -> list[Augmentation]:
    return [answer.augmentation for answer in stage.augment(requests)]


def test_original_comes_first_and_the_unlikely_is_dropped() -> None:
    stage, _, _ = captioner()
    [answer] = stage.augment([request("the red star")])
    assert answer.left_out == {"positive below minimum_similarity": 1}
    result = answer.augmentation
    assert [item.text for item in result.positives] == ["the red star", "the crimson star"]
    assert result.positives[0].confidence == 1
    assert result.positives[1].confidence == 0.8
    assert result.positives[1].similarity == pytest.approx(0.9, abs=1e-4)
    assert [item.kind for item in result.negatives] == ["attribute"]
    assert result.provenance.revision == "abc"
    assert result.provenance.seed == 7


def test_similarity_is_the_geometric_mean_of_the_texts_own_tokens() -> None:
    stage, _, _ = captioner(minimum_similarity=0.0)
    result = augmented(stage, request("the red star"))[0]
    assert result.positives[2].similarity == pytest.approx(0.3, abs=1e-4)


def test_no_positive_is_held_likelier_than_one_before_it() -> None:
    answer = json.dumps(
        {
            "positives": [
                {"text": "a crimson star", "confidence": 0.9},
                {"text": "ZZZZ", "confidence": 0.8},
                {"text": "the star in red", "confidence": 0.7},
            ],
            "negatives": [],
        }
    )
    stage, _, _ = captioner(lambda text, attempt: answer, minimum_similarity=0.0)
    result = augmented(stage, request("the red star"))[0]
    found = [item.similarity for item in result.positives[1:]]
    assert found == pytest.approx([0.9, 0.3, 0.3], abs=1e-4)


def test_a_broken_answer_is_asked_for_again() -> None:
    stage, _, model = captioner(lambda text, attempt: ANSWER if attempt else "no", retries=1)
    [answer] = stage.augment([request("the red star")])
    assert list(model.asked.values()) == [2]
    # The fake reads three tokens of a prompt, and writes one of each letter.
    assert answer.tokens == (6, len("no") + len(ANSWER))


def test_only_what_failed_is_asked_again() -> None:
    def script(text: str, attempt: int) -> str:
        return "no" if '"one"' in text and not attempt else ANSWER

    stage, processor, _ = captioner(script, retries=1)
    results = augmented(stage, request("one", 0), request("another", 1))
    assert [result.original for result in results] == ["one", "another"]
    assert [len(prompts) for prompts in processor.prompts] == [2, 1]


def test_no_usable_answer_is_an_error_with_sample_and_reason() -> None:
    stage, _, _ = captioner(lambda text, attempt: "no", retries=1)
    with pytest.raises(AugmentationError, match=r"shapes:train:v:0.*2 attempts.*names no list"):
        stage.augment([request("the red star")])


def test_batches_hold_like_lengths_and_order_is_kept() -> None:
    stage, processor, _ = captioner(batch_texts=2)
    texts = ["a", "the longest of them all", "bb", "quite a long one"]
    results = augmented(stage, *(request(text, row) for row, text in enumerate(texts)))
    assert [result.original for result in results] == texts
    assert [len(prompts) for prompts in processor.prompts] == [2, 2]
    assert '"a"' in processor.prompts[0][0]
    assert '"bb"' in processor.prompts[0][1]


def test_requests_with_other_numbers_of_images_do_not_share_a_batch() -> None:
    stage, processor, _ = captioner()
    stage.augment([request("a", 0, 1), request("b", 1, 3)])
    assert [[len(row) for row in images] for images in processor.images] == [[1], [3]]


def test_sampling_is_the_same_in_any_batch() -> None:
    def answers(batch: int) -> list[float]:
        stage, _, _ = captioner(
            temperature=0.2, batch_texts=batch, retries=20, minimum_similarity=0.0
        )
        results = augmented(stage, request("a", 0), request("b", 1), request("c", 2))
        return [item.similarity for result in results for item in result.positives]

    assert answers(1) == answers(3)


def test_the_expression_is_quoted_as_data() -> None:
    text = DEFAULT_PROMPT.render('a "star"\nIgnore this', ["b"], 5, 12, 4)
    assert r'"a \"star\"\nIgnore this"' in text


def test_a_checkpoint_brings_its_own_prompt(tmp_path: Path) -> None:
    assert load_prompt(tmp_path) == DEFAULT_PROMPT
    assert load_prompt(tmp_path, nouns=True) == NOUN_PROMPT
    path = tmp_path / "prompt.json"
    path.write_text('{"template": "{expression}", "version": "demo-1"}')
    prompt = load_prompt(tmp_path, nouns=True)
    assert prompt.render("the red star", [], 5, 12, 4) == "the red star"
    path.write_text('{"template": "{unknown}", "version": "demo-1"}')
    with pytest.raises(CheckpointError, match="unknown"):
        load_prompt(tmp_path)
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="template and version"):
        load_prompt(tmp_path)


def test_other_sources_import_no_model_library() -> None:
    import subprocess

    code = (
        "import sys, stages.augment.endpoint, stages.augment.lexicon; print('torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "False"


def test_an_expression_without_an_answer_goes_on_alone(caplog: pytest.LogCaptureFixture) -> None:
    stage, _, _ = captioner(
        lambda text, attempt: "no" if "big square" in text else ANSWER, retries=1
    )
    answers = stage.augment([request("the red star"), request("the big square", 1)])
    star, square = (answer.augmentation for answer in answers)
    assert len(star.positives) == 2
    assert [item.text for item in square.positives] == ["the big square"]
    assert (square.key.expression, square.negatives) == ("1", ())
    assert [answer.left_out.get(ALONE) for answer in answers] == [None, 1]
    assert "shapes:train:v:1: no usable answer of fake in 2 attempts" in caplog.text


def test_a_model_that_answers_nothing_is_an_error() -> None:
    stage, _, _ = captioner(lambda text, attempt: "no", retries=0)
    with pytest.raises(UnusableAnswerError, match="shapes:train:v:0: no usable answer"):
        stage.augment([request("the red star"), request("the big square", 1)])


def test_thinking_is_off_where_the_chat_template_knows_it() -> None:
    def asked(**changes: object) -> dict[str, object]:
        stage, processor, _ = captioner(**changes)  # type: ignore[arg-type]
        stage.augment([request("a")])
        [settings] = processor.template_settings
        return {k: v for k, v in settings.items() if k not in ("add_generation_prompt", "tokenize")}

    knows = "{% if enable_thinking is false %}<think></think>{% endif %}"
    assert asked() == {}
    assert asked(template=knows) == {"enable_thinking": False}
    given = {"enable_thinking": True}
    assert asked(template=knows, chat_template_kwargs=given) == given
