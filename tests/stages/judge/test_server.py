"""A judge behind a server: what it is sent, and how its answers are read."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipeline.config import JudgeConfig
from pipeline.errors import EndpointError
from pipeline.judgements import JudgeRequest
from pipeline.types import SampleKey
from stages.judge import load_judge
from stages.judge.server import ServedJudge

ENDPOINT = {"source": "endpoint", "endpoint": "http://host/v1", "endpoint_model": "m"}


def request(text: str = "a 'dog\"", frames: int = 2) -> JudgeRequest:
    images = [np.full((40, 60, 3), 50 * row, np.uint8) for row in range(frames)]
    return JudgeRequest(SampleKey("d", "s", "v", "0"), text, images, (2, 1, 3), (0.1, 0.2, 0.3))


def served(handler: Callable[[httpx.Request], httpx.Response], **changes: Any) -> ServedJudge:
    config = JudgeConfig.model_validate(ENDPOINT | changes)
    transport = httpx.MockTransport(handler)
    return ServedJudge(config, 7, transport, {"OPENAI_API_KEY": "secret"}, lambda _: 0.0)


def says(answer: str | None, **more: Any) -> httpx.Response:
    choice = {"message": {"content": answer}} | more
    usage = {"prompt_tokens": 900, "completion_tokens": 2}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def test_a_server_gets_the_frames_and_the_question_and_its_tokens_tell_the_probability() -> None:
    bodies: list[Any] = []

    def handler(call: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(call.content))
        logs = {"2": 0.6, "1": 0.15, "0": 0.05, "cat": 0.2}
        tops = [{"token": token, "logprob": math.log(p)} for token, p in logs.items()]
        tokens = [{"token": "2", "logprob": math.log(0.6), "top_logprobs": tops}]
        return says("2", logprobs={"content": tokens})

    judge = served(handler, extra_body={"top_k": -1})
    [reply] = judge.ask([request()])
    assert (reply.text, reply.chosen, reply.tokens) == ("2", (2,), (900, 2))
    assert reply.probability == pytest.approx(0.75)
    [body] = bodies
    assert (body["model"], body["temperature"], body["seed"], body["top_k"]) == ("m", 0, 7, -1)
    first, second, text = body["messages"][0]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(second["image_url"]["url"].partition(",")[2])))
    assert sent.size == (60, 40) and first["type"] == "image_url"
    assert json.dumps("a 'dog\"") in text["text"] and "1, 2, 3" in text["text"]
    assert "2 frames" in text["text"]
    assert judge.provenance.model == "m" and judge.provenance.prompt_version == "judge-1"
    judge.close()


def test_without_token_probabilities_there_is_none_and_no_content_is_no_answer() -> None:
    [reply] = served(lambda _: says("Object 3.")).ask([request()])
    assert (reply.chosen, reply.probability) == ((3,), None)
    [reply] = served(lambda _: says(None, finish_reason="length")).ask([request()])
    assert (reply.chosen, reply.probability, reply.tokens) == (None, None, (900, 2))
    odd = says("2", logprobs={"content": [{"token": "x"}]})
    [reply] = served(lambda _: odd).ask([request()])
    assert (reply.chosen, reply.probability) == ((2,), None)


def test_failures_name_the_section_and_passing_ones_are_repeated() -> None:
    refusing = served(lambda _: httpx.Response(401, text="no key"))
    with pytest.raises(EndpointError, match=r"answered 401 .*OPENAI_API_KEY"):
        refusing.ask([request()])
    missing = served(lambda _: httpx.Response(404))
    with pytest.raises(EndpointError, match=re.escape("check judge.endpoint")):
        missing.ask([request()])
    answers = [httpx.Response(503), httpx.Response(429), says("1")]
    [reply] = served(lambda _: answers.pop(0)).ask([request()])
    assert reply.chosen == (1,)


def test_settings_that_a_source_needs() -> None:
    with pytest.raises(ValueError, match="needs endpoint and endpoint_model"):
        JudgeConfig.model_validate({"source": "endpoint"})
    with pytest.raises(ValueError, match="needs checkpoint, a folder"):
        JudgeConfig.model_validate({"source": "model"})
    with pytest.raises(ValueError, match="a user name, a password or a query"):
        JudgeConfig.model_validate(ENDPOINT | {"endpoint": "http://me:secret@host/v1"})
    assert isinstance(load_judge(JudgeConfig.model_validate(ENDPOINT), None, 0), ServedJudge)
