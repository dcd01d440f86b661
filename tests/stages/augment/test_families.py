"""Models of several families, tiny and random, through real processors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stages.augment.captioner import ModelCaptioner
from tests.fakes.captioner_models import MADE, write_captioner
from tests.stages.augment.test_checkpoint import load, requests


@pytest.fixture(scope="module", params=list(MADE))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioner(request.param, tmp_path_factory.mktemp(request.param))


def own_probabilities(captioner: ModelCaptioner, tokens: tuple[int, ...]) -> np.ndarray:
    """What the model itself gives the tokens of an answer, in one forward pass."""
    inputs = dict(captioner._inputs(requests()[:1]))
    written = torch.tensor([tokens])
    start = inputs["input_ids"].shape[1]
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.zeros_like(written)], 1)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], written], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.inference_mode():
        logits = captioner._model(**inputs).logits.log_softmax(-1)
    return logits[0, start - 1 : -1].gather(-1, written[0][:, None])[:, 0].numpy()


def test_batches_and_probabilities_are_the_models_own_and_nothing_is_inherited(
    folder: Path,
) -> None:
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["repetition_penalty"] == 5, "the folder would penalise what was said"
    captioner = load(folder)
    alone = [captioner.answers([request])[0] for request in requests()]
    together = captioner.answers(requests())
    for one, other in zip(alone, together, strict=True):
        assert one.tokens == other.tokens
        assert one.read == other.read > 100, "padding does not count"
        np.testing.assert_allclose(one.log_probability, other.log_probability, atol=1e-3)
    # A penalty, a temperature or a cut of the words would give other probabilities.
    expected = own_probabilities(captioner, alone[0].tokens)
    np.testing.assert_allclose(alone[0].log_probability, expected, atol=1e-3)
    assert expected.max() < -1e-3, "the random model is not certain"
