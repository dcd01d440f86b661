"""A local Prefect server: persistent, in the background, on 127.0.0.1, shared by all runs.

If ``PREFECT_API_URL`` is set, that server is used and nothing is started. Does not import Prefect,
so that a run with nothing to do need not wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PseudoLabelError

HOST = "127.0.0.1"
PORT = 4200
START_SECONDS = 90.0

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

_HERE = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_started: list[subprocess.Popen[bytes]] = []
"""Servers that this process started. They outlive it."""


class ServerError(PseudoLabelError):
    """The local Prefect server does not start or does not answer."""


@dataclass(frozen=True)
class Server:
    """A server that was started by this project.

    Attributes:
        pid: of its process.
        url: of its API.
    """

    pid: int
    url: str

    @property
    def ui(self) -> str:
        """Address of its UI."""
        return self.url.removesuffix("/api")


def prefect_home() -> Path:
    """Returns the folder of Prefect's state. Raises ServerError if it is unknown."""
    try:
        return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    except RuntimeError as error:
        raise ServerError(
            f"no folder for Prefect's state is known ({error}); set PREFECT_HOME to a folder that"
            " can be written"
        ) from error


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
        environment[name] = ",".join([*known, *(host for host in _HERE if host not in known)])
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


def is_healthy(url: str, seconds: float = 2.0) -> bool:
    """Whether an API answers that it is healthy."""
    opener = urllib.request.build_opener(*_without_proxy(url))
    try:
        with opener.open(f"{url}/health", timeout=seconds) as reply:
            return bool(reply.status == 200 and reply.read(16).strip() == b"true")
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _without_proxy(url: str) -> list[urllib.request.ProxyHandler]:
    """Returns a handler that turns proxies off, if an address is on this machine."""
    here = urllib.parse.urlsplit(url).hostname in _HERE
    return [urllib.request.ProxyHandler({})] if here else []


def running() -> Server | None:
    """Returns the local server if it answers; else None."""
    server = _remembered()
    return server if server is not None and is_healthy(server.url) else None


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
    with _one_at_a_time(seconds):
        return (running() or start(seconds)).url


def restart(url: str, seconds: float = START_SECONDS) -> bool:
    """Starts a lost local server again at the same address, so that it still knows its runs.

    Returns:
        False if the server was not started here, or if its process lives and does not answer.

    Raises:
        ServerError: it does not start; the message names its log.
    """
    with _one_at_a_time(seconds):
        known = _remembered()
        if known is None or known.url != url:
            return False
        if is_healthy(url):
            return True
        if _is_server(known) and _is_alive(known.pid):
            return False
        start(seconds, _port_of(known))
        return True


@contextmanager
def _one_at_a_time(seconds: float) -> Iterator[None]:
    """Holds a lock, so that two runs do not both start a server."""
    home = _made_home()
    try:
        with FileLock(home / "pseudolabels-server.lock", timeout=seconds):
            yield
    except Timeout as error:
        raise ServerError(
            f"{home}: another run has been starting the Prefect server for {seconds:g} s; wait for"
            " it, or set PREFECT_API_URL to a server that runs"
        ) from error


def _made_home() -> Path:
    home = prefect_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"{home}: {error.strerror}; expected a folder that can be written; set PREFECT_HOME"
        ) from error
    return home


def start(seconds: float = START_SECONDS, port: int | None = None) -> Server:
    """Starts a server on the usual port, or on a free one if that is taken.

    Args:
        seconds: time that it may take to answer.
        port: the port to use; None for any.

    Raises:
        ServerError: it ends or does not answer in time.
    """
    home = _made_home()
    try:
        log = (home / "pseudolabels-server.log").open("ab")
    except OSError as error:
        raise ServerError(
            f"{home}: {error.strerror}; expected a folder that can be written; set PREFECT_HOME"
        ) from error
    port = _free_port(port)
    url = f"http://{HOST}:{port}/api"
    environment = dict(os.environ)
    quiet(environment)
    # The page asks the API under this address; without it, under the usual port.
    environment["PREFECT_SERVER_UI_API_URL"] = url
    environment["PREFECT_API_URL"] = url
    # What ends nothing here must not end the server.
    environment.pop("PYTHONOPTIMIZE", None)
    if not _may_write_beside_prefect():
        environment.setdefault("PREFECT_SERVER_UI_STATIC_DIRECTORY", str(home / "ui"))
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", HOST, "--port", str(port), "--no-late-runs"]
    with log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
    _started.append(process)
    server = Server(process.pid, url)
    _record().write_text(json.dumps(asdict(server)), encoding="utf-8")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_healthy(url):
            return server
        if process.poll() is not None:
            break
        time.sleep(0.2)
    ended = process.poll()
    found = f"ended with code {ended}" if ended is not None else f"gave no answer in {seconds:g} s"
    if ended is None:
        process.terminate()
        process.wait()
    _record().unlink(missing_ok=True)
    raise ServerError(
        f"the Prefect server on port {port} {found}; see {home / 'pseudolabels-server.log'}, or"
        " set PREFECT_API_URL to a server that runs"
    )


def _may_write_beside_prefect() -> bool:
    """Whether the server may copy its pages to where Prefect is installed, as it does by itself."""
    spec = find_spec("prefect")
    place = None if spec is None else spec.origin
    return place is not None and os.access(Path(place).parent, os.W_OK)


def stop(seconds: float = 15.0) -> Server | None:
    """Stops the local server. Returns it, or None if there is none.

    Raises:
        ServerError: it does not end in time.
    """
    server = _remembered()
    if server is None or not _is_server(server) or not _asked_to_end(server.pid):
        _record().unlink(missing_ok=True)
        return None
    deadline = time.monotonic() + seconds
    while _is_alive(server.pid):
        if time.monotonic() > deadline:
            raise ServerError(f"process {server.pid} did not end in {seconds:g} s; end it yourself")
        time.sleep(0.1)
    _record().unlink(missing_ok=True)
    return server


def _record() -> Path:
    return prefect_home() / "pseudolabels-server.json"


def _remembered() -> Server | None:
    record = _record()
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        server = Server(int(values["pid"]), str(values["url"]))
        return server if _port_of(server) is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_server(server: Server) -> bool:
    """Whether the process is the server that was started. After a restart of the machine, another
    process can have its number, and another server its address."""
    words = _command_of(server.pid)
    return "prefect server start" in words and f"--port {_port_of(server)} " in f"{words} "


def _command_of(pid: int) -> str:
    """Returns the command line of a process; empty if there is no such process."""
    try:
        if Path("/proc/self").exists():
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            return words.replace(b"\0", b" ").decode(errors="replace").strip()
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _port_of(server: Server) -> int | None:
    return urllib.parse.urlsplit(server.url).port


def _asked_to_end(pid: int) -> bool:
    """Asks a process to end. False if it is gone, or another user's."""
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _is_alive(pid: int) -> bool:
    for process in _started:
        if process.pid == pid:
            return process.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _free_port(only: int | None = None) -> int:
    for port in (PORT, 0) if only is None else (only,):
        with socket.socket() as probe:
            # As the server does: connections of one that was killed linger for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    wanted = "no free port" if only is None else f"port {only} is taken"
    raise ServerError(f"{wanted} on {HOST}; set PREFECT_API_URL to a server that runs")
