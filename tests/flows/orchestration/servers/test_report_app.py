"""The server of reports: what it gives, and that no request leads anywhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.orchestration.servers.report_app import app, report_of
from flows.orchestration.watching.known_runs import key_of, remember


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    folder = tmp_path / "runs" / "shapes-train"
    (folder / "report").mkdir(parents=True)
    (folder / "config.toml").write_text("secret")
    (folder / "report" / "index.html").write_text("<h1>of the run</h1>")
    remember(folder)
    return folder


@pytest.fixture
def client(run: Path) -> TestClient:
    return TestClient(app(), base_url="http://127.0.0.1:4280")


def test_a_report_is_served_by_the_key_of_its_run(client: TestClient, run: Path) -> None:
    reply = client.get(f"/reports/{key_of(run)}/")
    assert reply.status_code == 200
    assert reply.text == "<h1>of the run</h1>"
    assert reply.headers["content-type"].startswith("text/html")
    assert key_of(run) in client.get("/").text
    assert client.get("/api/health").text == "true"


@pytest.mark.parametrize(
    "path",
    [
        "/reports/{key}/config.toml",
        "/reports/{key}/../config.toml",
        "/reports/{key}/%2e%2e/config.toml",
        "/reports/{key}%2f..%2fconfig.toml/",
        "/reports/..%2f..%2fetc%2fpasswd/",
        "/reports/../../../../etc/passwd",
        "/reports//etc/passwd",
        "/reports/no-such-run/",
    ],
)
def test_nothing_but_reports_is_served(client: TestClient, run: Path, path: str) -> None:
    reply = client.get(path.format(key=key_of(run)))
    assert reply.status_code == 404
    assert "secret" not in reply.text
    assert "root:" not in reply.text


def test_a_report_that_is_a_link_out_of_its_run_is_not_served(run: Path, tmp_path: Path) -> None:
    page = run / "report" / "index.html"
    page.unlink()
    assert report_of(key_of(run)) is None
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index.html").write_text("secret")
    page.symlink_to(tmp_path / "elsewhere" / "index.html")
    assert report_of(key_of(run)) is None
    page.unlink()
    page.parent.rmdir()
    page.parent.symlink_to(tmp_path / "elsewhere")
    assert report_of(key_of(run)) is None


def test_it_only_reads_and_answers_to_no_other_name(client: TestClient, run: Path) -> None:
    place = f"/reports/{key_of(run)}/"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, place).status_code == 405
    assert client.get(place, headers={"Host": "evil.example"}).status_code == 400
