"""A local Prefect server: persistent, in the background, on 127.0.0.1, shared by all runs.

If ``PREFECT_API_URL`` is set, that server is used and nothing is started. Does not import Prefect,
so that a run with nothing to do need not wait for it.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path

from flows.orchestration.servers.background import (
    HERE,
    HOST,
    Background,
    Server,
    ServerError,
    is_healthy,
    prefect_home,
)
from flows.orchestration.servers.processes import is_alive

__all__ = ["Server", "ServerError", "is_healthy", "prefect_home"]

START_SECONDS = 90.0

PREFECT = Background(
    "pseudolabels-server",
    "the Prefect server",
    "prefect server start --host 127.0.0.1 --port {port}",
    4200,
)

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,stages,storage",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_API_REQUEST_TIMEOUT": "15",
}
"""Defaults for the environment: no telemetry, no output of Prefect on the terminal (its logs still
reach the server), and a short timeout for calls that are not answered."""

_CLIENT_RETRIES = "PREFECT_CLIENT_MAX_RETRIES"

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def quiet(environment: MutableMapping[str, str]) -> None:
    """Adds :data:`QUIET` to an environment. Variables that are set stay."""
    for name, value in QUIET.items():
        environment.setdefault(name, value)
    home = environment.get("PREFECT_HOME")
    if home and not _knows_home():
        # As of a user without an entry: libraries end where they find no home folder at all.
        environment["HOME"] = home
    # Prefect's own 5 retries block a run for a minute a call. A server of the user's may be busy.
    environment.setdefault(_CLIENT_RETRIES, "3" if environment.get("PREFECT_API_URL") else "1")


def _knows_home() -> bool:
    try:
        Path("~").expanduser()
    except RuntimeError:
        return False
    return True


def make_reachable(environment: MutableMapping[str, str]) -> list[str]:
    """Makes HTTP clients reach this machine without a proxy, and removes proxies and certificates
    with which no client starts.

    Returns:
        Names of the removed variables.
    """
    for name in ("no_proxy", "NO_PROXY"):
        known = [host for host in environment.get(name, "").split(",") if host.strip()]
        environment[name] = ",".join([*known, *(host for host in HERE if host not in known)])
    proxies = [name for each in _PROXIES for name in (each, each.upper()) if environment.get(name)]
    named = [*proxies, *(name for name in _CERTIFICATES if environment.get(name))]
    unusable = [name for name in named if not _starts_a_client(name, environment[name])]
    for name in unusable:
        del environment[name]
    return unusable


def _starts_a_client(name: str, value: str) -> bool:
    """Whether an HTTP client starts if a variable has this value."""
    import httpx

    try:
        if name == "SSL_CERT_FILE":
            ssl.create_default_context(cafile=value)
        if name in _CERTIFICATES:
            return Path(value).exists()
        httpx.Client(proxy=value).close()
    except (ImportError, OSError, ValueError, httpx.InvalidURL):
        return False
    return True


def running() -> Server | None:
    """Returns the local server if it answers; else None."""
    return PREFECT.running()


def ensure(seconds: float = START_SECONDS) -> str:
    """Returns the API to use: the user's own, the running local one, or a new local one.

    Args:
        seconds: time that a new server may take to answer.

    Raises:
        ServerError: it does not start; the message names its log.
    """
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        return configured
    with PREFECT.one_at_a_time(seconds):
        return (running() or start(seconds)).url


def restart(url: str, seconds: float = START_SECONDS) -> bool:
    """Starts a lost local server again at the same address, so that it still knows its runs.

    Returns:
        False if the server was not started here, or if its process lives and does not answer.

    Raises:
        ServerError: it does not start; the message names its log.
    """
    with PREFECT.one_at_a_time(seconds):
        known = PREFECT.remembered()
        if known is None or known.url != url:
            return False
        if is_healthy(url):
            return True
        if PREFECT.is_server(known) and is_alive(known.pid):
            return False
        start(seconds, known.port)
        return True


def start(seconds: float = START_SECONDS, port: int | None = None) -> Server:
    """Starts a server on the usual port, or on a free one if that is taken.

    Args:
        seconds: time that it may take to answer.
        port: the port to use; None for any.

    Raises:
        ServerError: it ends or does not answer in time.
    """
    return PREFECT.start(_command, _environment, seconds, port)


def stop(seconds: float = 15.0) -> Server | None:
    """Stops the local server. Returns it, or None if there is none.

    Raises:
        ServerError: it does not end in time.
    """
    return PREFECT.stop(seconds)


def _command(port: int) -> list[str]:
    where = ["--host", HOST, "--port", str(port)]
    return [sys.executable, "-m", "prefect", "server", "start", *where, "--no-late-runs"]


def _environment(url: str) -> Mapping[str, str]:
    environment = dict(os.environ)
    quiet(environment)
    # The page asks the API under this address; without it, under the usual port.
    environment["PREFECT_SERVER_UI_API_URL"] = url
    environment["PREFECT_API_URL"] = url
    # What ends nothing here must not end the server.
    environment.pop("PYTHONOPTIMIZE", None)
    if not _may_write_beside_prefect():
        environment.setdefault("PREFECT_SERVER_UI_STATIC_DIRECTORY", str(prefect_home() / "ui"))
    return environment


def _may_write_beside_prefect() -> bool:
    """Whether the server may copy its pages to where Prefect is installed, as it does by itself."""
    spec = find_spec("prefect")
    place = None if spec is None else spec.origin
    return place is not None and os.access(Path(place).parent, os.W_OK)
