"""Calls of an OpenAI-compatible server, such as one that vLLM serves.

If a failure may be temporary (a lost connection, a busy or restarting server), the call is repeated
after growing pauses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from pipeline.errors import AugmentationError, EndpointError
from stages.common.pauses import pause

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Status codes of failures that may be temporary."""

REFUSING = frozenset({401, 402, 403, 404, 405})
"""Status codes that another request would get too."""

CALLS = 5
"""Largest number of calls for one answer if failures may be temporary."""

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


class ServerSettings(Protocol):
    """The settings of a server in a section of the configuration."""

    @property
    def endpoint(self) -> str | None: ...
    @property
    def api_key_env(self) -> str: ...
    @property
    def timeout_seconds(self) -> float: ...


class ChatServer:
    """Chat completions of one server.

    Args:
        config: address, key variable, time limit.
        section: of the configuration that has these, for messages.
        transport: replaces the network in tests; None uses the network.
        environment: variables that hold the key; None uses those of the process.
        wait: seconds before a call is repeated; None uses pauses that grow to a minute.

    Raises:
        EndpointError: the environment's proxy or certificates cannot be used.
    """

    def __init__(
        self,
        config: ServerSettings,
        section: str,
        transport: httpx.BaseTransport | None = None,
        environment: Mapping[str, str] | None = None,
        wait: Callable[[Any], float] | None = None,
    ) -> None:
        self._config, self._section, self._wait = config, section, wait or pause
        self._address = str(config.endpoint)
        key = (os.environ if environment is None else environment).get(config.api_key_env)
        try:
            self._client = httpx.Client(
                base_url=self._address.rstrip("/"),
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=config.timeout_seconds,
                transport=transport,
                # A server on this machine is not behind the proxy that leads out of it.
                trust_env=urlsplit(self._address).hostname not in _HERE,
            )
        except (ImportError, OSError, ValueError) as error:
            raise EndpointError(
                f"{self._address}: no connection can be made ({error}); check the proxy and the"
                " certificates that the environment names (HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE)"
            ) from error

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def complete(self, body: Mapping[str, Any], about: str) -> Any:
        """Returns the server's JSON.

        Args:
            body: of the request.
            about: what is asked about, for messages.

        Raises:
            EndpointError: the server cannot be reached, refuses, or does not answer in JSON.
            AugmentationError: the server rejects this request.
        """
        where = f"{about}: {self._address}"
        calls = Retrying(
            stop=stop_after_attempt(CALLS),
            wait=self._wait,
            retry=retry_if_exception(_can_pass),
            reraise=True,
        )
        try:
            response: httpx.Response = calls(self._post, body)
            return response.json()
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            detail = error.response.text[:200]
            refuses = EndpointError if code in REFUSING | PASSING else AugmentationError
            raise refuses(f"{where} answered {code} ({detail}); {self._remedy(code)}") from error
        except httpx.HTTPError as error:
            raise EndpointError(
                f"{where} cannot be reached ({type(error).__name__}: {error}); check"
                f" {self._section}.endpoint, that the server runs, and"
                f" {self._section}.timeout_seconds"
            ) from error
        except ValueError as error:
            raise EndpointError(
                f"{where} answered what is not JSON; expected an OpenAI-compatible server, with"
                " the base URL up to and with /v1"
            ) from error

    def choice_of(self, answer: Any, about: str) -> dict[str, Any]:
        """Returns the first choice of a completion, whose message may have no content.

        Raises:
            AugmentationError: it is no chat completion.
        """
        try:
            choice = answer["choices"][0]
            if isinstance(choice["message"]["content"], str | None):
                return dict(choice)
        except (KeyError, IndexError, TypeError):
            pass
        raise AugmentationError(
            f"{about}: {self._address} answered without choices[0].message.content; expected an"
            " OpenAI-compatible chat completion"
        )

    def _post(self, body: Mapping[str, Any]) -> httpx.Response:
        """Returns the whole answer.

        Raises:
            httpx.ReadTimeout: it takes longer than a call may, even if parts keep arriving.
        """
        end = time.monotonic() + self._config.timeout_seconds
        parts = []
        with self._client.stream("POST", "/chat/completions", json=body) as response:
            for part in response.iter_bytes():
                parts.append(part)
                if time.monotonic() > end:
                    raise httpx.ReadTimeout(
                        f"no whole answer within {self._config.timeout_seconds:g} s",
                        request=response.request,
                    )
        kept = {
            name: response.headers[name] for name in ("retry-after",) if name in response.headers
        }
        whole = httpx.Response(
            response.status_code, headers=kept, content=b"".join(parts), request=response.request
        )
        return whole.raise_for_status()

    def _remedy(self, code: int) -> str:
        if code in (401, 403):
            return f"put a valid key into the environment variable {self._config.api_key_env}"
        names = f"{self._section}.endpoint", f"{self._section}.endpoint_model"
        if code == 404:
            return f"check {names[0]} (up to and with /v1) and {names[1]}"
        if code in PASSING:
            return f"it did so {CALLS} times; try later, or lower {self._section}.concurrency"
        return f"check {names[1]} and that it takes several images"


def _can_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in PASSING
    return isinstance(error, httpx.TransportError)
