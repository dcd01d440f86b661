"""Starts, finds and stops servers of this project that run in the background, on this machine only.

A server has a record ``<PREFECT_HOME>/<name>.json`` with its process and address, and a log beside
it. It outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from flows.orchestration.servers.processes import asked_to_end, command_of, is_alive, started
from pipeline.errors import PseudoLabelError

HOST = "127.0.0.1"
HERE = (HOST, "localhost", "::1")

_TRIES = 3
"""Ports that are tried: another server may take one between the look and the start."""


class ServerError(PseudoLabelError):
    """A server in the background does not start or does not answer."""


class PortTakenError(ServerError):
    """Another server was quicker to take a port."""


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
        """Address of its pages."""
        return self.url.removesuffix("/api")

    @property
    def port(self) -> int | None:
        return urllib.parse.urlsplit(self.url).port


def prefect_home() -> Path:
    """Returns the folder of Prefect's state. Raises ServerError if it is unknown."""
    try:
        return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    except RuntimeError as error:
        raise ServerError(
            f"no folder for Prefect's state is known ({error}); set PREFECT_HOME to a folder that"
            " can be written"
        ) from error


def made_home() -> Path:
    """Returns the folder of Prefect's state, and makes it. Raises ServerError if that fails."""
    home = prefect_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(home, error) from error
    return home


def is_healthy(url: str, seconds: float = 2.0) -> bool:
    """Whether an API answers that it is healthy."""
    try:
        return _get(f"{url}/health", seconds, 16).strip() == b"true"
    except (urllib.error.URLError, OSError, ValueError):
        return False


class Background:
    """A kind of server in the background.

    Args:
        name: of its record and its log.
        title: what messages call it.
        words: what its command line contains, with ``{port}`` for the port.
        port: the port that it gets if that is free.
    """

    def __init__(self, name: str, title: str, words: str, port: int) -> None:
        self.name, self.title, self.port = name, title, port
        self._words = words

    @property
    def record(self) -> Path:
        return prefect_home() / f"{self.name}.json"

    def remembered(self) -> Server | None:
        """Returns the server of the record, whether it answers or not."""
        record = self.record
        try:
            values = json.loads(record.read_text(encoding="utf-8"))
            server = Server(int(values["pid"]), str(values["url"]))
            return server if server.port is not None else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def running(self) -> Server | None:
        """Returns the server if it answers; else None."""
        server = self.remembered()
        return server if server is not None and is_healthy(server.url) else None

    def is_server(self, server: Server) -> bool:
        """Whether the process is the server that was started. After a restart of the machine,
        another process can have its number, and another server its address."""
        words = self._words.format(port=server.port)
        return f"{words} " in f"{command_of(server.pid)} "

    @contextmanager
    def one_at_a_time(self, seconds: float) -> Iterator[None]:
        """Holds a lock, so that two processes do not both start a server."""
        home = made_home()
        try:
            with FileLock(home / f"{self.name}.lock", timeout=seconds):
                yield
        except Timeout as error:
            raise ServerError(
                f"{home}: another process has been starting {self.title} for {seconds:g} s; wait"
                " for it, or set PREFECT_API_URL to a server that runs"
            ) from error

    def start(
        self,
        command: Callable[[int], Sequence[str]],
        environment: Callable[[str], Mapping[str, str]],
        seconds: float,
        port: int | None = None,
    ) -> Server:
        """Starts a server on the usual port, or on a free one if that is taken.

        Args:
            command: returns the command line for a port.
            environment: returns the environment for an address of the API.
            seconds: time that it may take to answer.
            port: the port to use; None for any.

        Raises:
            ServerError: it ends or does not answer in time.
        """
        for attempt in range(_TRIES):
            chosen = free_port(self.port if port is None else port, port is None)
            url = f"http://{HOST}:{chosen}/api"
            try:
                return self._started(command(chosen), environment(url), url, seconds)
            except PortTakenError:
                if port is not None or attempt + 1 == _TRIES:
                    raise
        raise AssertionError("every try returns or raises")

    def _started(
        self, command: Sequence[str], environment: Mapping[str, str], url: str, seconds: float
    ) -> Server:
        home = made_home()
        try:
            log = (home / f"{self.name}.log").open("ab")
        except OSError as error:
            raise _not_writable(home, error) from error
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
        started.append(process)
        server = Server(process.pid, url)
        self.record.write_text(json.dumps(asdict(server)), encoding="utf-8")
        deadline = time.monotonic() + seconds
        strange = False
        while time.monotonic() < deadline and process.poll() is None:
            strange = is_healthy(url) and not _is_of(url, home)
            if not strange and is_healthy(url):
                return server
            time.sleep(0.2)
        raise self._ended_badly(process, server, seconds, strange)

    def _ended_badly(
        self, process: subprocess.Popen[bytes], server: Server, seconds: float, strange: bool
    ) -> ServerError:
        ended = process.poll()
        found = (
            f"ended with code {ended}" if ended is not None else f"gave no answer in {seconds:g} s"
        )
        if ended is None:
            process.terminate()
            process.wait()
        self.record.unlink(missing_ok=True)
        kind = PortTakenError if strange or is_healthy(server.url) else ServerError
        return kind(
            f"{self.title} on port {server.port} {found}; see {prefect_home() / self.name}.log, or"
            " set PREFECT_API_URL to a server that runs"
        )

    def stop(self, seconds: float = 15.0) -> Server | None:
        """Stops the server. Returns it, or None if there is none.

        Raises:
            ServerError: it does not end in time.
        """
        server = self.remembered()
        if server is None or not self.is_server(server) or not asked_to_end(server.pid):
            self.record.unlink(missing_ok=True)
            return None
        deadline = time.monotonic() + seconds
        while is_alive(server.pid):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"process {server.pid} did not end in {seconds:g} s; end it yourself"
                )
            time.sleep(0.1)
        self.record.unlink(missing_ok=True)
        return server


def free_port(wanted: int, or_any: bool = True) -> int:
    """Returns a free port of this machine: the wanted one, or any.

    Raises:
        ServerError: there is none.
    """
    for port in (wanted, 0) if or_any else (wanted,):
        with socket.socket() as probe:
            # As servers do: connections of one that was killed linger for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    found = "no free port" if or_any else f"port {wanted} is taken"
    raise ServerError(f"{found} on {HOST}; set PREFECT_API_URL to a server that runs")


def _is_of(url: str, home: Path) -> bool:
    """Whether a server that answers is of this folder, as far as it says: another user's server can
    have taken the port."""
    try:
        told: Any = json.loads(_get(f"{url}/admin/settings", 5.0))
    except (urllib.error.URLError, OSError, ValueError):
        return True
    place = told.get("home") if isinstance(told, dict) else None
    return place is None or Path(str(place)).expanduser() == home


def _get(url: str, seconds: float, size: int = -1) -> bytes:
    here = urllib.parse.urlsplit(url).hostname in HERE
    opener = urllib.request.build_opener(*[urllib.request.ProxyHandler({})] * here)
    with opener.open(url, timeout=seconds) as reply:
        return bytes(reply.read(size)) if reply.status == 200 else b""


def _not_writable(home: Path, error: OSError) -> ServerError:
    return ServerError(
        f"{home}: {error.strerror}; expected a folder that can be written; set PREFECT_HOME"
    )
