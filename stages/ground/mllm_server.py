"""A multimodal language model behind an OpenAI-compatible server, which is asked about images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from pipeline.config import MllmConfig
from pipeline.ports import Image
from stages.common.chat_server import ChatServer
from stages.common.completion import similarity_of
from stages.common.data_urls import jpeg_data_url
from stages.ground.mllm import Reply

_JPEG_QUALITY = 95


class ServedModel:
    """A :class:`stages.ground.mllm.Asked` over HTTP; ``concurrency`` calls run at a time.

    Args:
        config: endpoint, model, key variable, limits.
        transport, environment, wait: as of :class:`stages.common.chat_server.ChatServer`.
    """

    def __init__(
        self,
        config: MllmConfig,
        transport: httpx.BaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
        wait: Callable[[Any], float] | None = None,
    ) -> None:
        self._config = config
        self._server = ChatServer(config, "ground.mllm", transport, environment, wait)

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()

    def ask(self, questions: Sequence[tuple[Image, str]]) -> list[Reply]:
        """Returns one reply per pair of an image and a question, in their order.

        Raises:
            EndpointError: the server cannot be reached or refuses.
            AugmentationError: the server rejects a request.
        """
        with ThreadPoolExecutor(self._config.concurrency, "ground") as pool:
            return list(pool.map(self._one, questions))

    def _one(self, asked: tuple[Image, str]) -> Reply:
        image, text = asked
        picture = {"url": jpeg_data_url(image, _JPEG_QUALITY)}
        content = [{"type": "image_url", "image_url": picture}, {"type": "text", "text": text}]
        body = {
            "model": self._config.endpoint_model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._config.max_new_tokens,
            "temperature": 0.0,
            "logprobs": True,
        } | self._config.extra_body
        choice = self._server.choice_of(self._server.complete(body, "ground"), "ground")
        answer = choice["message"]["content"] or ""
        height, width = image.shape[:2]
        return Reply(answer, (height, width), similarity_of(choice, answer))
