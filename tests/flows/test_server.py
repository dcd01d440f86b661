import json
import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows import server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return tmp_path


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None: ...


def test_the_users_own_server_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    assert server.ensure() == "http://elsewhere/api"


def test_a_healthy_server_is_used_again(home: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Healthy) as fake:
        thread = Thread(target=fake.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{fake.server_port}/api"
        record = {"pid": os.getpid(), "url": url}
        (home / "pseudolabels-server.json").write_text(json.dumps(record))
        assert server.ensure() == url
        assert server.Server(1, url).ui == url.removesuffix("/api")
        fake.shutdown()
        thread.join()
    assert server.running() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "url": 3}'])
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


def test_a_taken_port_gives_way_to_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(server, "PORT", taken.getsockname()[1])
        assert server._free_port() != taken.getsockname()[1]


def test_quiet_leaves_what_the_user_set() -> None:
    environment = {"PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    server.quiet(environment)
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"
    assert environment["DO_NOT_TRACK"] == "1"


def test_nobody_listening_is_not_healthy() -> None:
    assert not server.is_healthy("http://127.0.0.1:9/api", 0.5)
    assert not server.is_healthy("nonsense", 0.5)
