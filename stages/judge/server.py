"""A judge behind an OpenAI-compatible server, such as one that vLLM serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from pipeline.config import JudgeConfig
from pipeline.judgements import JudgeReply, JudgeRequest
from pipeline.types import Provenance
from stages.common.chat_server import ChatServer
from stages.common.completion import alternatives_of, similarity_of, tokens_of
from stages.common.data_urls import jpeg_data_url
from stages.judge.answers import probability_of, read_answer
from stages.judge.prompt import PROMPT_VERSION, question

_JPEG_QUALITY = 95
_ALTERNATIVES = 20


class ServedJudge:
    """A :class:`pipeline.ports.Judge` over HTTP; ``concurrency`` calls run at a time.

    Args:
        config: endpoint, model, key variable, limits.
        seed: sent with every call.
        transport, environment, wait: as of :class:`stages.common.chat_server.ChatServer`.
    """

    needs_frames = True

    def __init__(
        self,
        config: JudgeConfig,
        seed: int,
        transport: httpx.BaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
        wait: Callable[[Any], float] | None = None,
    ) -> None:
        self._config, self._seed = config, seed
        self._server = ChatServer(config, "judge", transport, environment, wait)
        model, address = str(config.endpoint_model), str(config.endpoint)
        self.provenance = Provenance(model, address, PROMPT_VERSION, seed)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def ask(self, requests: Sequence[JudgeRequest]) -> list[JudgeReply]:
        """Returns one reply per request, in their order.

        Raises:
            EndpointError: the server cannot be reached or refuses.
            AugmentationError: the server rejects a request.
        """
        with ThreadPoolExecutor(self._config.concurrency, "judge") as pool:
            return list(pool.map(self._one, requests))

    def _one(self, request: JudgeRequest) -> JudgeReply:
        about = str(request.key)
        whole = self._server.complete(self._body(request), about)
        choice, tokens = self._server.choice_of(whole, about), tokens_of(whole)
        answer = choice["message"]["content"] or ""
        reading = read_answer(answer, request.numbers)
        if reading is None:
            return JudgeReply(answer, None, None, tokens)
        likely = probability_of(
            reading,
            request.numbers,
            alternatives_of(choice, answer),
            similarity_of(choice, answer),
        )
        return JudgeReply(answer, reading.chosen, likely, tokens)

    def _body(self, request: JudgeRequest) -> dict[str, Any]:
        pictures = [
            {"type": "image_url", "image_url": {"url": jpeg_data_url(image, _JPEG_QUALITY)}}
            for image in request.images
        ]
        content = [*pictures, {"type": "text", "text": question(request)}]
        return {
            "model": self._config.endpoint_model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._config.max_new_tokens,
            "temperature": 0.0,
            "seed": self._seed,
            "logprobs": True,
            "top_logprobs": _ALTERNATIVES,
        } | self._config.extra_body
