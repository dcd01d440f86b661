import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from pipeline.config import AugmentConfig
from pipeline.errors import AugmentationError, EndpointError, UnusableAnswerError
from pipeline.ports import CaptionRequest
from pipeline.types import Augmentation, Expression, SampleKey, VideoRef
from stages.augment.endpoint import EndpointCaptioner
from stages.augment.unanswered import ALONE

ANSWER = json.dumps(
    {
        "positives": [{"text": "the crimson star", "confidence": 0.8}],
        "negatives": [{"text": "the blue star", "kind": "attribute"}],
    }
)


def completion(content: Any, logprobs: Any = None) -> httpx.Response:
    choice = {"message": {"content": content}, "logprobs": logprobs}
    return httpx.Response(200, json={"choices": [choice]})


def request(text: str = "the red star", row: int = 0) -> CaptionRequest:
    expression = Expression(SampleKey("shapes", "train", "v", str(row)), text)
    images = [np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 200, np.uint8)]
    return CaptionRequest(VideoRef("v", (), (), 8, 8), images, expression)


def augmented(stage: EndpointCaptioner, *requests: CaptionRequest) -> list[Augmentation]:
    return [answer.augmentation for answer in stage.augment(requests)]


def test_an_answer_that_drips_is_given_up(make: Callable[..., EndpointCaptioner]) -> None:
    class Drips(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                time.sleep(0.005)
                yield b" "

    stage = make(lambda _: httpx.Response(200, stream=Drips()), timeout_seconds=0.02)
    with pytest.raises(EndpointError, match="no whole answer within"):
        stage.augment([request()])


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "socks5://127.0.0.1:9"), ("SSL_CERT_FILE", "/nowhere.pem")]
)
def test_an_environment_that_makes_no_connection_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    values = {"source": "endpoint", "endpoint_model": "m", "endpoint": "https://host/v1"}
    with pytest.raises(EndpointError, match=name):
        EndpointCaptioner(AugmentConfig.model_validate(values), 0)
    # A server on this machine is reached directly.
    here = values | {"endpoint": "http://127.0.0.1:1/v1"}
    EndpointCaptioner(AugmentConfig.model_validate(here), 0).close()


@pytest.fixture
def make() -> Iterator[Callable[..., EndpointCaptioner]]:
    opened = []

    def build(
        handler: Callable[[httpx.Request], httpx.Response],
        wait: Callable[[Any], float] | None = lambda _: 0.0,
        **changes: Any,
    ) -> EndpointCaptioner:
        config = AugmentConfig.model_validate(
            {"source": "endpoint", "endpoint": "http://host/v1", "endpoint_model": "m"} | changes
        )
        stage = EndpointCaptioner(
            config,
            5,
            transport=httpx.MockTransport(handler),
            environment={"OPENAI_API_KEY": "secret"},
            wait=wait,
        )
        opened.append(stage)
        return stage

    yield build
    for stage in opened:
        stage.close()


def test_a_server_is_asked_for_nouns_if_they_are_wanted(
    make: Callable[..., EndpointCaptioner],
) -> None:
    seen: list[dict[str, Any]] = []

    def handler(call: httpx.Request) -> httpx.Response:
        seen.append(json.loads(call.content))
        return completion(ANSWER.replace("{", '{"noun": "star", ', 1))

    [with_noun], [without] = (
        augmented(make(handler, nouns=nouns), request()) for nouns in (True, False)
    )
    asked = [body["response_format"]["json_schema"]["schema"]["required"] for body in seen]
    assert asked == [["noun", "positives", "negatives"], ["positives", "negatives"]]
    texts = [body["messages"][0]["content"][-1]["text"] for body in seen]
    assert ["sort of object that the target is" in text for text in texts] == [True, False]
    assert with_noun.noun == "star"
    versions = [item.provenance.prompt_version for item in (with_noun, without)]
    assert versions == ["contrastive-1-noun", "contrastive-1"]


def test_frames_go_as_jpegs_before_the_text(make: Callable[..., EndpointCaptioner]) -> None:
    seen: list[httpx.Request] = []

    def handler(call: httpx.Request) -> httpx.Response:
        seen.append(call)
        return completion(ANSWER)

    [result] = augmented(make(handler), request())
    assert str(seen[0].url) == "http://host/v1/chat/completions"
    assert seen[0].headers["authorization"] == "Bearer secret"
    body = json.loads(seen[0].content)
    content = body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    assert '"the red star"' in content[2]["text"]
    assert body["seed"] == 5
    assert [item.text for item in result.positives] == ["the red star", "the crimson star"]
    assert result.provenance.model == "m"


def test_similarity_comes_from_the_servers_token_probabilities(
    make: Callable[..., EndpointCaptioner],
) -> None:
    tokens = [{"token": letter, "logprob": float(np.log(0.25))} for letter in ANSWER]
    stage = make(lambda call: completion(ANSWER, {"content": tokens}), minimum_similarity=0.2)
    [result] = augmented(stage, request())
    assert result.positives[1].similarity == pytest.approx(0.25)
    strict = make(lambda call: completion(ANSWER, {"content": tokens}), minimum_similarity=0.5)
    [answer] = strict.augment([request()])
    assert len(answer.augmentation.positives) == 1
    assert answer.left_out == {"positive below minimum_similarity": 1}


def test_answers_are_read_as_a_models_own(make: Callable[..., EndpointCaptioner]) -> None:
    texts = ["a crimson star", "the star in red", "a star that is red"]
    answer = json.dumps({"positives": [{"text": t, "confidence": 0.7} for t in texts]})

    def similarities(logprobs: Any, minimum: float = 0.0) -> list[float]:
        stage = make(
            lambda call: completion(answer, logprobs), minimum_similarity=minimum, positives=6
        )
        return [item.similarity for item in augmented(stage, request())[0].positives[1:]]

    def tokens(written: str) -> dict[str, Any]:
        doubtful = written.index(texts[1])
        within = range(doubtful, doubtful + len(texts[1]))
        chances = [0.3 if place in within else 0.9 for place in range(len(written))]
        return {
            "content": [
                {"token": letter, "logprob": float(np.log(chance))}
                for letter, chance in zip(written, chances, strict=True)
            ]
        }

    assert similarities(tokens(answer)) == pytest.approx([0.9, 0.3, 0.3]), "with those before it"
    elsewhere = tokens(answer.replace(texts[0], "another text"))
    assert similarities(elsewhere) == [0, 0, 0], "probabilities of other words tell nothing"
    assert similarities(None, minimum=0.6) == [0.7, 0.7, 0.7], "the confidence stands in"


def test_letters_of_several_tokens_are_put_together(make: Callable[..., EndpointCaptioner]) -> None:
    text = "l'étoile, la 星"
    answer = json.dumps({"positives": [{"text": text, "confidence": 0.7}]}, ensure_ascii=False)
    tokens = [
        {"token": "\ufffd", "bytes": [byte], "logprob": float(np.log(0.25))}
        for byte in answer.encode()
    ]
    stage = make(lambda call: completion(answer, {"content": tokens}), minimum_similarity=0.2)
    [result] = augmented(stage, request())
    assert [item.similarity for item in result.positives[1:]] == pytest.approx([0.25])


@pytest.mark.parametrize(
    "logprobs",
    [
        {},
        "none",
        {"content": []},
        {"content": [1]},
        {"content": {"a": 1}},
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "bytes": "x", "logprob": 0}]},
    ],
)
def test_probabilities_that_cannot_be_read_are_none(
    make: Callable[..., EndpointCaptioner], logprobs: Any
) -> None:
    [result] = augmented(make(lambda call: completion(ANSWER, logprobs)), request())
    assert [item.similarity for item in result.positives[1:]] == [0.8]


def test_what_can_pass_is_tried_again(make: Callable[..., EndpointCaptioner]) -> None:
    replies = [httpx.Response(503), httpx.ConnectError("gone"), completion(ANSWER)]

    def handler(call: httpx.Request) -> httpx.Response:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    assert len(make(handler).augment([request()])) == 1
    assert replies == []


def test_a_broken_answer_is_asked_for_again_warmer(make: Callable[..., EndpointCaptioner]) -> None:
    bodies: list[dict[str, Any]] = []

    def handler(call: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(call.content))
        return completion(ANSWER if len(bodies) == 2 else "no")

    make(handler, retries=1).augment([request()])
    assert [body["temperature"] for body in bodies] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("reply", "part", "calls", "kind"),
    [
        (httpx.Response(401, text="bad key"), "OPENAI_API_KEY", 1, EndpointError),
        (httpx.Response(404), "endpoint_model", 1, EndpointError),
        (httpx.Response(429), "lower augment.concurrency", 5, EndpointError),
        (httpx.Response(200, text="<html>"), "not JSON", 1, EndpointError),
        # Another request may fare better.
        (httpx.Response(400), "takes several images", 1, AugmentationError),
        (httpx.Response(200, json={"choices": []}), "message.content", 1, AugmentationError),
        (completion("no"), "no usable answer", 3, UnusableAnswerError),
    ],
)
def test_failures_say_what_to_do(
    make: Callable[..., EndpointCaptioner],
    reply: httpx.Response,
    part: str,
    calls: int,
    kind: type[AugmentationError],
) -> None:
    count = 0

    def handler(call: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return reply

    with pytest.raises(AugmentationError, match=part) as caught:
        make(handler).augment([request()])
    assert (count, caught.type) == (calls, kind)


def test_an_expression_without_an_answer_goes_on_alone(
    make: Callable[..., EndpointCaptioner],
) -> None:
    def handler(call: httpx.Request) -> httpx.Response:
        prompt = json.loads(call.content)["messages"][0]["content"][-1]["text"]
        return completion("no" if '"the square"' in prompt else ANSWER)

    stage = make(handler, retries=1)
    answers = stage.augment([request("the square"), request(row=1)])
    square, star = (answer.augmentation for answer in answers)
    assert [item.text for item in square.positives] == ["the square"]
    assert square.negatives == () and star.negatives
    assert [answer.left_out.get(ALONE) for answer in answers] == [1, None]


def test_an_unreachable_server_is_named(make: Callable[..., EndpointCaptioner]) -> None:
    def handler(call: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(EndpointError, match="http://host/v1 cannot be reached"):
        make(handler).augment([request()])


def test_calls_at_a_time_are_bounded_and_order_is_kept(
    make: Callable[..., EndpointCaptioner],
) -> None:
    lock = threading.Lock()
    running, most = 0, 0
    pair = threading.Barrier(2, timeout=10)

    def handler(call: httpx.Request) -> httpx.Response:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pair.wait()
        with lock:
            running -= 1
        return completion(ANSWER)

    requests = [request(f"star {row}", row) for row in range(6)]
    results = augmented(make(handler, concurrency=2), *requests)
    assert [result.original for result in results] == [f"star {row}" for row in range(6)]
    assert most == 2


def test_a_message_without_content_is_asked_for_again(
    make: Callable[..., EndpointCaptioner],
) -> None:
    """As servers with a reasoning parser answer when the thoughts use up all tokens."""
    replies = [completion(None), completion(ANSWER)]
    [result] = augmented(make(lambda _: replies.pop(0), retries=1), request())
    assert [item.text for item in result.negatives] == ["the blue star"]
    with pytest.raises(UnusableAnswerError, match="enable_thinking=false"):
        make(lambda _: completion(None), retries=0).augment([request()])


def test_probabilities_of_thoughts_are_not_the_answers(
    make: Callable[..., EndpointCaptioner],
) -> None:
    thought = '"the crimson star"?'
    written = [(letter, 0.1) for letter in thought] + [(letter, 0.9) for letter in ANSWER]
    tokens = [{"token": letter, "logprob": float(np.log(chance))} for letter, chance in written]
    stage = make(lambda _: completion(ANSWER, {"content": tokens}))
    [result] = augmented(stage, request())
    assert result.positives[1].similarity == pytest.approx(0.9)


def test_answers_are_asked_for_by_a_schema_and_a_server_that_refuses_is_asked_without(
    make: Callable[..., EndpointCaptioner], caplog: pytest.LogCaptureFixture
) -> None:
    bodies: list[dict[str, Any]] = []

    def handler(call: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(call.content))
        if "response_format" in bodies[-1]:
            return httpx.Response(400, text="response_format is not supported")
        return completion(ANSWER)

    stage = make(handler, concurrency=1)
    answers = stage.augment([request(), request(row=1)])
    assert all(answer.augmentation.negatives for answer in answers)
    assert ["response_format" in body for body in bodies] == [True, False, False]
    schema = bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["positives", "negatives"]
    assert caplog.text.count("does not take a JSON schema") == 1
    bodies.clear()
    make(handler, json_schema=False).augment([request()])
    assert len(bodies) == 1


def test_settings_of_the_chat_template_are_sent(make: Callable[..., EndpointCaptioner]) -> None:
    bodies: list[dict[str, Any]] = []

    def handler(call: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(call.content))
        return completion(ANSWER)

    make(handler).augment([request()])
    make(handler, chat_template_kwargs={"enable_thinking": False}).augment([request()])
    assert "chat_template_kwargs" not in bodies[0], "other servers may refuse it"
    assert bodies[1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_further_fields_of_a_request_are_sent_and_win(
    make: Callable[..., EndpointCaptioner],
) -> None:
    bodies: list[Any] = []

    def handler(call: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(call.content))
        return completion(ANSWER)

    augmented(make(handler, extra_body={"repetition_penalty": 1.0, "logprobs": False}), request())
    assert bodies[0]["repetition_penalty"] == 1.0 and bodies[0]["logprobs"] is False
    augmented(make(handler), request())
    assert "repetition_penalty" not in bodies[1] and bodies[1]["logprobs"] is True


def test_a_call_is_repeated_when_the_server_asks_for_it(
    make: Callable[..., EndpointCaptioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    replies = [httpx.Response(429, headers={"Retry-After": "123"}), completion(ANSWER)]
    make(lambda _: replies.pop(0), wait=None).augment([request()])
    assert slept == [123.0]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 1200, "completion_tokens": 300}, (2400, 600)),
        ({"prompt_tokens": "many", "completion_tokens": -1}, (0, 0)),
        ([], (0, 0)),
        (None, (0, 0)),
    ],
)
def test_tokens_of_all_attempts_are_counted(
    make: Callable[..., EndpointCaptioner], usage: Any, tokens: tuple[int, int]
) -> None:
    calls = []

    def reply(call: httpx.Request) -> httpx.Response:
        calls.append(call)
        content = ANSWER if len(calls) == 2 else "no"
        body = {"choices": [{"message": {"content": content}}], "usage": usage}
        return httpx.Response(200, json=body)

    [answer] = make(reply, retries=1, concurrency=1).augment([request()])
    assert len(calls) == 2
    assert answer.tokens == tokens
