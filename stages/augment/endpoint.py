"""Positives and hard negatives from an OpenAI-compatible server, such as one that vLLM serves.

It uses chat completions with the frames as JPEG data URLs. The number of calls at a time is
limited (:mod:`stages.common.chat_server`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from pipeline.config import AugmentConfig
from pipeline.errors import AugmentationError, ConfigError, UnusableAnswerError
from pipeline.ports import CaptionAnswer, CaptionRequest
from pipeline.types import Expression, Provenance
from stages.augment.parse import parse_answer
from stages.augment.prompt import DEFAULT_PROMPT, NOUN_PROMPT, Prompt, answer_schema
from stages.augment.reading import read_answer, temperature_of
from stages.augment.unanswered import given_up, settled
from stages.common.chat_server import ChatServer
from stages.common.completion import similarity_of, tokens_of, without_content
from stages.common.data_urls import jpeg_data_url

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 90


class EndpointCaptioner:
    """A :class:`pipeline.ports.Captioner` over HTTP.

    Args:
        config: endpoint, model, key variable, time limit, concurrency, counts, thresholds.
        seed: sent with every call, and stored with every text.
        prompt: what the model is asked; None for the project's own prompt.
        transport: replaces the network in tests; None uses the network.
        environment: variables that hold the key; None uses those of the process.
        wait: seconds before a call is repeated; None uses pauses that grow to a minute.

    Raises:
        ConfigError: no endpoint or model is configured.
        EndpointError: the environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        config: AugmentConfig,
        seed: int,
        prompt: Prompt | None = None,
        transport: httpx.BaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
        wait: Callable[[Any], float] | None = None,
    ) -> None:
        if not config.endpoint or not config.endpoint_model:
            raise ConfigError("augment.source 'endpoint' needs endpoint and endpoint_model")
        self._config = config
        self._prompt = prompt or (NOUN_PROMPT if config.nouns else DEFAULT_PROMPT)
        self._seed = seed
        self._model = config.endpoint_model
        self._provenance = Provenance(self._model, config.endpoint, self._prompt.version, seed)
        self._with_schema = config.json_schema
        # How a server is asked to write nothing but the object that the prompt describes.
        schema = {"name": "augmentation", "strict": True, "schema": answer_schema(config.nouns)}
        self._answer_format = {"type": "json_schema", "json_schema": schema}
        self._server = ChatServer(config, "augment", transport, environment, wait)

    def augment(self, requests: Sequence[CaptionRequest]) -> list[CaptionAnswer]:
        """Returns one answer per request, in their order; ``concurrency`` calls run at a time.

        If an expression has no usable answer after ``retries`` further attempts, it is used without
        augmentation.

        Raises:
            EndpointError: the server cannot be reached or refuses.
            AugmentationError: the server rejects a request, or no request has a usable answer.
        """
        with ThreadPoolExecutor(self._config.concurrency, "augment") as pool:
            made = list(pool.map(self._one, requests))
        expressions = [request.expression for request in requests]
        found, tokens = [item for item, _ in made], [spent for _, spent in made]
        return settled(expressions, found, self._provenance, tokens)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def _one(
        self, request: CaptionRequest
    ) -> tuple[CaptionAnswer | UnusableAnswerError, tuple[int, int]]:
        """Returns the answer to a request, and the tokens of all attempts."""
        expression = request.expression
        read = written = 0
        problem: UnusableAnswerError | None = None
        for attempt in range(self._config.retries + 1):
            body = self._body(request, attempt)
            whole = self._call(body, expression)
            choice = self._server.choice_of(whole, str(expression.key))
            tokens = tokens_of(whole)
            read, written = read + tokens[0], written + tokens[1]
            try:
                return self._read(expression, choice), (read, written)
            except UnusableAnswerError as error:
                logger.info("%s, attempt %d: %s", expression.key, attempt + 1, error)
                problem = error
        served = f"{self._model} at {self._config.endpoint}"
        unusable = given_up(expression, served, self._config.retries + 1, problem)
        return unusable, (read, written)

    def _body(self, request: CaptionRequest, attempt: int) -> dict[str, Any]:
        text = self._prompt.of(request, self._config)
        pictures = [
            {"type": "image_url", "image_url": {"url": jpeg_data_url(image, _JPEG_QUALITY)}}
            for image in request.images
        ]
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}],
            "max_tokens": self._config.max_new_tokens,
            "temperature": temperature_of(self._config, attempt),
            "seed": self._seed + attempt,
            "logprobs": True,
        }
        if self._config.chat_template_kwargs:
            body["chat_template_kwargs"] = self._config.chat_template_kwargs
        return body | self._config.extra_body

    def _call(self, body: dict[str, Any], expression: Expression) -> Any:
        """Returns the server's JSON. A server that refuses the JSON schema is asked without it."""
        if not self._with_schema:
            return self._called(body, expression)
        try:
            return self._called(body | {"response_format": self._answer_format}, expression)
        except AugmentationError as error:
            if not _names_the_schema(error.__cause__):
                raise
        found = self._called(body, expression)
        if self._with_schema:
            self._with_schema = False
            logger.warning(
                "%s does not take a JSON schema (response_format); the form of answers is asked for"
                " in words alone; augment.json_schema=false leaves it out from the start",
                self._config.endpoint,
            )
        return found

    def _called(self, body: dict[str, Any], expression: Expression) -> Any:
        return self._server.complete(body, str(expression.key))

    def _read(self, expression: Expression, choice: dict[str, Any]) -> CaptionAnswer:
        answer = choice["message"]["content"]
        if answer is None:
            raise UnusableAnswerError(without_content(choice))
        parsed = parse_answer(
            answer, expression.text, self._config.positives - 1, self._config.negatives
        )
        return read_answer(
            expression, parsed, similarity_of(choice, answer), self._config, self._provenance
        )


def _names_the_schema(error: BaseException | None) -> bool:
    """Whether a server rejected a request for its ``response_format``."""
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    text = error.response.text.lower()
    named = any(word in text for word in ("response_format", "json_schema", "guided", "structured"))
    return error.response.status_code in (400, 422, 501) and named
