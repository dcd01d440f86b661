import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows.orchestration.servers import background, processes, server
from flows.orchestration.servers.background import Background, PortTakenError, free_port


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that do nothing for a while, with words at the end of their command."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        code = "import time; print('here', flush=True); time.sleep(60)"
        item = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
        started.append(item)
        assert item.stdout is not None
        assert item.stdout.readline()
        return item

    yield start
    for item in started:
        item.kill()
        item.communicate()


@contextmanager
def healthy() -> Iterator[str]:
    """The address of something that says that it is well."""
    with HTTPServer(("127.0.0.1", 0), Healthy) as fake:
        thread = Thread(target=fake.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{fake.server_port}/api"
        fake.shutdown()
        thread.join()


def record(home: Path, pid: int, url: str) -> Path:
    path = home / "pseudolabels-server.json"
    path.write_text(json.dumps({"pid": pid, "url": url}))
    return path


class Healthy(BaseHTTPRequestHandler):
    home = "/here"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        settings = self.path.endswith("settings")
        self.wfile.write(json.dumps({"home": self.home}).encode() if settings else b"true")

    def log_message(self, *_: object) -> None: ...


def test_the_users_own_server_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    assert server.ensure() == "http://elsewhere/api"


def test_a_healthy_server_is_used_again(home: Path) -> None:
    with healthy() as url:
        record(home, os.getpid(), url)
        assert server.ensure() == url
        assert server.Server(1, url).ui == url.removesuffix("/api")
    assert server.running() is None


def test_a_process_that_took_the_servers_number_is_left_alone(
    home: Path, process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with healthy() as url:
        port = url.split(":")[2].removesuffix("/api")
        elsewhere = process("-m", "prefect", "server", "start", "--port", f"{port}0", "--no-late")
        for other in (process(), process("prefect", "worker", "start"), elsewhere):
            path = record(home, other.pid, url)
            assert server.stop() is None
            assert other.poll() is None
            assert not path.exists()


def test_the_server_that_was_started_here_is_ended(
    home: Path,
    process: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = process(
        *("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", "4711"),
        "--no-late-runs",
    )
    monkeypatch.setattr(processes, "started", [ours])
    path = record(home, ours.pid, "http://127.0.0.1:4711/api")
    assert server.stop() == server.Server(ours.pid, "http://127.0.0.1:4711/api")
    assert ours.poll() is not None
    assert not path.exists()


def test_a_server_that_ends_by_itself_meanwhile_is_no_error(
    home: Path,
    process: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = process()
    gone.kill()
    gone.wait()
    monkeypatch.setattr(Background, "is_server", lambda self, known: True)
    record(home, gone.pid, "http://127.0.0.1:4711/api")
    assert server.stop() is None


def test_the_command_line_starts_a_server_as_a_run_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.commands.server import server_start

    taken: list[str] = []

    @contextmanager
    def lock(self: Background, seconds: float) -> Iterator[None]:
        taken.append("locked")
        yield
        taken.append("free")

    def start(seconds: float) -> server.Server:
        taken.append("started")
        return server.Server(1, "http://127.0.0.1:4711/api")

    monkeypatch.setattr(Background, "one_at_a_time", lock)
    monkeypatch.setattr(server, "start", start)
    server_start()
    assert taken == ["locked", "started", "free"]
    assert "http://127.0.0.1:4711" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "url": 3}', '{"pid":1,"url":3}'])
def test_a_broken_record_reads_as_no_server(home: Path, text: str) -> None:
    (home / "pseudolabels-server.json").write_text(text)
    assert server.running() is None
    assert server.stop() is None


def test_a_server_that_ends_is_an_error_with_its_log(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with pytest.raises(server.ServerError, match=r"ended with code 1; see .*server\.log"):
        server.start(5)
    assert not (home / "pseudolabels-server.json").exists()


def test_a_home_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(server.ServerError, match="set PREFECT_HOME"):
        server.start(5)


def test_a_taken_port_gives_way_to_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
        with pytest.raises(server.ServerError, match=f"port {port} is taken"):
            free_port(port, or_any=False)


def test_a_server_of_another_folder_that_took_the_port_is_not_taken_for_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where two users start a server at the same moment, and this one looks first."""
    with healthy() as url:
        port = int(url.split(":")[2].removesuffix("/api"))
        monkeypatch.setattr(Healthy, "home", "/another")
        monkeypatch.setattr(background, "free_port", lambda wanted, or_any: port)
        monkeypatch.setattr(server.sys, "executable", "/bin/false")
        with pytest.raises(PortTakenError, match=f"port {port}"):
            server.start(5)
    assert not (home / "pseudolabels-server.json").exists()


def test_quiet_leaves_what_the_user_set() -> None:
    environment = {"PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    server.quiet(environment)
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"
    assert environment["DO_NOT_TRACK"] == "1"


def test_nobody_listening_is_not_healthy() -> None:
    assert not server.is_healthy("http://127.0.0.1:9/api", 0.5)
    assert not server.is_healthy("nonsense", 0.5)


@pytest.mark.parametrize("given", ["", "example.org", "localhost,example.org"])
def test_this_machine_is_reached_past_every_proxy(given: str) -> None:
    environment = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": given}
    assert server.make_reachable(environment) == []
    assert environment["HTTP_PROXY"] == "http://127.0.0.1:9"
    hosts = environment["NO_PROXY"].split(",")
    assert {"127.0.0.1", "localhost", "::1", *filter(None, given.split(","))} == set(hosts)
    assert len(hosts) == len(set(hosts))
    assert "127.0.0.1" in environment["no_proxy"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "nosuch://127.0.0.1:9"),
        ("https_proxy", "http://[::1"),
        ("SSL_CERT_FILE", "/nowhere/cert.pem"),
        ("SSL_CERT_DIR", "/nowhere"),
    ],
)
def test_what_keeps_a_client_from_starting_is_taken_away_and_named(name: str, value: str) -> None:
    environment = {name: value, "HTTP_PROXY": "http://127.0.0.1:9"}
    assert server.make_reachable(environment) == [name]
    assert name not in environment
    assert "HTTP_PROXY" in environment


def test_certificates_that_are_none_are_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"
    path.write_text("no certificate")
    assert server.make_reachable({"SSL_CERT_FILE": str(path)}) == ["SSL_CERT_FILE"]


def test_without_a_home_folder_the_variable_to_set_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home(*_: object) -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setattr(Path, "expanduser", no_home)
    for call in (server.ensure, server.running, server.stop):
        with pytest.raises(server.ServerError, match="set PREFECT_HOME"):
            call()


def test_pages_go_elsewhere_where_prefect_lies_in_a_folder_that_may_not_be_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []

    def popen(*_: object, env: dict[str, str], **__: object) -> None:
        started.append(env)
        raise OSError("enough")

    monkeypatch.setattr("subprocess.Popen", popen)
    for may, place in ((True, None), (False, str(home / "ui"))):
        monkeypatch.setattr(server, "_may_write_beside_prefect", lambda may=may: may)
        with pytest.raises(OSError, match="enough"):
            server.start()
        assert started[-1].get("PREFECT_SERVER_UI_STATIC_DIRECTORY") == place
