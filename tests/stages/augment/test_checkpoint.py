"""The real classes: a tiny Qwen2-VL with random weights, saved and loaded as a published one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.config import AugmentConfig
from pipeline.errors import CheckpointError, UnusableAnswerError
from pipeline.ports import CaptionRequest
from pipeline.types import Expression, SampleKey, VideoRef
from stages.augment import load_captioner
from stages.augment.captioner import ModelCaptioner
from stages.demo.captioner import build_captioner, build_processor, save_captioner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("captioner")
    torch.manual_seed(0)
    processor = build_processor()
    save_captioner(build_captioner(processor), processor, path)
    return path


def load(folder: Path, **changes: object) -> ModelCaptioner:
    values = {
        "source": "model",
        "checkpoint": str(folder),
        "max_new_tokens": 16,
        "retries": 0,
    } | changes
    captioner = load_captioner(AugmentConfig.model_validate(values), CPU, 0)
    assert isinstance(captioner, ModelCaptioner)
    return captioner


def requests() -> list[CaptionRequest]:
    rng = np.random.default_rng(0)
    texts = ["the circle", "the small blue circle to the left of the large red square"]
    return [
        CaptionRequest(
            VideoRef("v", (), (), 144, 256),
            [rng.integers(0, 255, (144, 256, 3), dtype=np.uint8) for _ in range(2)],
            Expression(SampleKey("shapes", "train", "v", str(row)), text),
        )
        for row, text in enumerate(texts)
    ]


def test_padding_changes_no_answer_and_no_probability(folder: Path) -> None:
    captioner = load(folder)
    alone = [captioner.answers([request])[0] for request in requests()]
    together = captioner.answers(requests())
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(one.log_probability, other.log_probability, atol=1e-4)


def test_noted_probabilities_are_the_models_own(folder: Path) -> None:
    captioner = load(folder, temperature=1.0)
    request = requests()[1]
    [answer] = captioner.answers([request])
    inputs = dict(captioner._inputs([request]))
    written = torch.tensor([answer.tokens])
    start = inputs["input_ids"].shape[1]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], written], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(written)], 1)
    with torch.inference_mode():
        logits = captioner._model(**inputs).logits.log_softmax(-1)
    expected = logits[0, start - 1 : -1].gather(-1, written[0][:, None])[:, 0]
    np.testing.assert_allclose(answer.log_probability, expected.numpy(), atol=1e-4)


def test_random_weights_give_an_error_that_names_the_sample(folder: Path) -> None:
    with pytest.raises(UnusableAnswerError, match="shapes:train:v:0"):
        load(folder).augment(requests())


def test_revision_is_the_digest_of_the_weights(folder: Path) -> None:
    captioner = load(folder)
    assert len(captioner._provenance.revision) == 12
    assert (
        captioner._provenance.prompt_version
        == json.loads((folder / "prompt.json").read_text())["version"]
    )


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_weights_that_lack_a_parameter_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="parameters do not fit"):
        load(copy)


def test_truncated_weights_are_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="does not load"):
        load(copy)


def test_a_tokenizer_that_knows_no_word_is_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    values = json.loads(path.read_text())
    values["pre_tokenizer"] = {"type": "Whitespace"}
    values["normalizer"] = {"type": "Prepend", "prepend": "x"}
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="reads plain words as unknown"):
        load(copy)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"checkpoint": "missing"}, "missing"),
        ({"checkpoint": "demo:nosuch"}, "no such demo model"),
        ({"sha256": "0" * 64}, "sha256"),
    ],
)
def test_wrong_checkpoints_say_what_was_expected(
    folder: Path, changes: dict[str, str], part: str
) -> None:
    with pytest.raises(CheckpointError, match=part):
        load(folder, **changes)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path)
