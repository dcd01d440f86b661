"""A multimodal language model finds boxes: in a folder, and behind a server."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import GroundConfig
from pipeline.errors import ConfigError, EndpointError
from stages.ground.grounder import load_grounder, load_model
from stages.ground.mllm import CELL, MllmGrounder, Reply, in_cells
from stages.ground.mllm_folder import FolderModel
from stages.ground.mllm_server import ServedModel
from tests.fakes.captioner_models import write_captioner

CPU = torch.device("cpu")
ENDPOINT = {"endpoint": "http://host/v1", "endpoint_model": "m", "coordinates": "pixels"}


def config_of(**changes: Any) -> GroundConfig:
    values: dict[str, Any] = {"source": "mllm", "mllm": ENDPOINT, "runner_ups": 1} | changes
    return GroundConfig.model_validate(values)


class Says:
    """Answers the same to every question."""

    def __init__(self, text: str, probability: float | None = None) -> None:
        self._text, self._probability = text, probability
        self.asked: list[tuple[NDArray[np.uint8], str]] = []

    def ask(self, questions: Sequence[tuple[NDArray[np.uint8], str]]) -> list[Reply]:
        self.asked += questions
        sizes = [image.shape[:2] for image, _ in questions]
        return [Reply(self._text, (h, w), lambda _: self._probability) for h, w in sizes]


def frames(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    return [np.full((height, width, 3), 40 * row, np.uint8) for row in range(count)]


@pytest.mark.parametrize("size", [(97, 131), (28, 28), (1080, 1920), (61, 400), (20, 300)])
def test_boxes_in_pixels_of_what_the_model_saw_are_mapped_back(size: tuple[int, int]) -> None:
    height, width = size
    seen = in_cells(frames(1, height, width)[0], 500_000).shape[:2]
    assert seen[0] % CELL == seen[1] % CELL == 0 and seen[0] * seen[1] <= 500_000
    # The right half of the frame, as the model sees it.
    model = Says(f"[{seen[1] / 2}, 0, {seen[1]}, {seen[0]}]")
    grounder = MllmGrounder(model, "pixels", config_of(mllm=ENDPOINT | {"max_pixels": 500_000}))
    [boxes] = grounder.ground(grounder.embed(frames(1, height, width)), ["a 'dog\""])
    np.testing.assert_allclose(boxes.xyxy, [[width / 2, 0, width, height]], atol=0.01)
    assert model.asked[0][0].shape[:2] == seen
    assert json.dumps("a 'dog\"") in model.asked[0][1]


def test_boxes_are_ordered_by_text_and_rank_with_scores_that_are_known() -> None:
    answer = (
        '[{"bbox_2d": [0, 0, 28, 28], "score": 0.2}, {"bbox_2d": [0, 0, 56, 56], "score": 0.9}]'
    )
    grounder = MllmGrounder(Says(answer), "pixels", config_of())
    first, second = grounder.ground(grounder.embed(frames(2, 112, 112)), ["a", "b"])
    assert first.text.tolist() == [0, 0, 1, 1] and first.rank.tolist() == [0, 1, 0, 1]
    assert first.score.tolist() == pytest.approx([0.9, 0.2] * 2)
    assert len(second) == 4
    sure = MllmGrounder(Says("[0, 0, 28, 28]"), "pixels", config_of())
    [boxes] = sure.ground(sure.embed(frames(1, 112, 112)), ["a"])
    assert boxes.score.tolist() == [1.0]
    likely = MllmGrounder(Says(answer, 0.4), "pixels", config_of(runner_ups=0))
    [boxes] = likely.ground(likely.embed(frames(1, 112, 112)), ["a"])
    assert boxes.score.tolist() == pytest.approx([0.4])
    none = MllmGrounder(Says("[]"), "pixels", config_of())
    assert [len(item) for item in none.ground(none.embed(frames(2, 56, 56)), ["a"])] == [0, 0]


def test_answers_that_say_nothing_are_told_and_an_empty_list_is_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for answer, told in (("```json\n[ ]\n```", False), ("I am not sure.", True), ("", True)):
        caplog.clear()
        grounder = MllmGrounder(Says(answer), "pixels", config_of())
        [boxes] = grounder.ground(grounder.embed(frames(1, 56, 56)), ["a", "b"])
        assert len(boxes) == 0
        assert ("2 of 2 answers hold no box" in caplog.text) is told


def served(handler: Callable[[httpx.Request], httpx.Response], **changes: Any) -> ServedModel:
    config = config_of(mllm=ENDPOINT | changes).mllm
    transport = httpx.MockTransport(handler)
    return ServedModel(config, transport, {"OPENAI_API_KEY": "secret"}, lambda _: 0.0)


def test_a_server_is_sent_the_frame_and_its_token_probabilities_are_scores() -> None:
    bodies: list[Any] = []

    def handler(call: httpx.Request) -> httpx.Response:
        assert call.headers["authorization"] == "Bearer secret"
        bodies.append(json.loads(call.content))
        answer = "[28, 0, 56, 28]"
        tokens = [{"token": letter, "logprob": float(np.log(0.25))} for letter in answer]
        choice = {"message": {"content": answer}, "logprobs": {"content": tokens}}
        return httpx.Response(200, json={"choices": [choice]})

    grounder = MllmGrounder(served(handler, extra_body={"top_k": -1}), "pixels", config_of())
    [boxes] = grounder.ground(grounder.embed(frames(1, 100, 200)), ["the red dog"])
    assert boxes.score.tolist() == pytest.approx([0.25])
    [body] = bodies
    assert body["model"] == "m" and body["temperature"] == 0 and body["top_k"] == -1
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert sent.size == (7 * CELL, 4 * CELL)
    np.testing.assert_allclose(boxes.xyxy[0], [200 / 7, 0, 400 / 7, 25], atol=0.01)


def test_failures_of_a_server_name_its_section() -> None:
    refusing = served(lambda _: httpx.Response(401, text="no key"))
    with pytest.raises(
        EndpointError, match=r"ground: http://host/v1 answered 401 .*OPENAI_API_KEY"
    ):
        refusing.ask([(frames(1, 56, 56)[0], "where?")])
    missing = served(lambda _: httpx.Response(404))
    with pytest.raises(EndpointError, match=re.escape("check ground.mllm.endpoint")):
        missing.ask([(frames(1, 56, 56)[0], "where?")])


@pytest.mark.parametrize(("kind", "cell"), [("qwen2_5_vl", 16), ("qwen3_vl", 16)])
def test_a_model_in_a_folder_is_asked(kind: str, cell: int, tmp_path: Path) -> None:
    folder = write_captioner(kind, tmp_path)
    mllm = {"max_new_tokens": 16, "max_pixels": 40_000}
    config = config_of(checkpoint=str(folder), mllm=mllm, batch_pairs=2)
    grounder: Any = load_grounder(config, CPU)
    assert isinstance(grounder, MllmGrounder)
    assert grounder._coordinates == {"qwen2_5_vl": "pixels", "qwen3_vl": "thousandths"}[kind]
    model = grounder._model
    assert isinstance(model, FolderModel)
    [image], _ = grounder.embed(frames(1, 45, 90))
    short, long = "where?", "where is the small dog that runs to the left of the tree?"
    together = model.ask([(image, short), (image, long), (image, short)])
    for text, reply in zip((short, long, short), together, strict=True):
        [alone] = model.ask([(image, text)])
        assert alone.text == reply.text
        # The processor of the tiny model takes at most 4096 pixels, in cells of its own.
        assert reply.seen[0] % cell == reply.seen[1] % cell == 0
        assert reply.seen[0] * reply.seen[1] <= 4096
        if reply.text:
            span = (0, len(reply.text))
            assert 0 < reply.probability(span) == pytest.approx(alone.probability(span), rel=1e-2)
    # Whatever a random model writes: it is read, and no box is outside of the frame.
    [boxes] = grounder.ground(grounder.embed(frames(1, 45, 90)), ["a dog"])
    assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [90, 45, 90, 45]).all()


def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs checkpoint, a folder"):
        config_of(mllm={})
    with pytest.raises(ValueError, match="endpoint needs endpoint_model, and coordinates"):
        config_of(mllm={"endpoint": "http://host/v1"})
    with pytest.raises(ValueError, match="a user name, a password or a query"):
        config_of(mllm=ENDPOINT | {"endpoint": "http://me:secret@host/v1"})
    with pytest.raises(ValueError, match="asks for each sentence alone; set joint to 1"):
        config_of(joint=8)
    (tmp_path / "config.json").write_text('{"model_type": "gemma3"}')
    with pytest.raises(ConfigError, match=r"type 'gemma3' writes boxes; set ground.mllm.coord"):
        load_grounder(config_of(checkpoint=str(tmp_path), mllm={}), CPU)
    with pytest.raises(ConfigError, match="students grounded and groprompt"):
        load_model(config_of(), CPU)
