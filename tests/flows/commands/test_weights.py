"""``weights fetch`` and ``weights list``, and what other commands say of missing weights."""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.weights import download, published
from flows.weights.published import Published
from tests.fakes.weights_server import File, WeightsServer
from tests.flows.commands.test_main import call

CONTENT = {"sam_vit_b_01ec64.pth": b"segment" * 9000, "groundingdino_swint_ogc.pth": b"g" * 50000}
SETTINGS = (
    "segment.checkpoint=published:sam_vit_b_01ec64.pth",
    "segment.model=vit_b",
    "ground.checkpoint=published:groundingdino_swint_ogc.pth",
)
Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeightsServer]:
    """Has small files under the published names, at the address of a mirror."""
    found = WeightsServer()
    found.files = {name: File(content) for name, content in CONTENT.items()}
    items = [
        Published(name, f"http://127.0.0.1:1/{name}", "a setting", "Apache-2.0", digest)
        for name, digest in ((n, hashlib.sha256(c).hexdigest()) for n, c in CONTENT.items())
    ]
    monkeypatch.setattr(published, "PUBLISHED", items)
    monkeypatch.setattr("flows.commands.weights.PUBLISHED", items)
    monkeypatch.setattr("flows.weights.state.PUBLISHED", items)
    monkeypatch.setenv("PSEUDOLABELS_MIRROR", f"{found.url}/")
    monkeypatch.setattr(download, "_pause", lambda state: 0.0)
    yield found
    found.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return lambda *words: call(monkeypatch, capsys, *words)


def test_fetch_shows_licence_and_size_then_fetches_once(
    server: WeightsServer, cache: Path, cli: Cli
) -> None:
    server.files["sam_vit_b_01ec64.pth"].faults = deque(["cut"])
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert code == 0, shown
    assert "sam_vit_b_01ec64.pth 0.1 MB Apache-2.0" in shown
    assert shown.index("Apache-2.0") < shown.index(": fetched")
    assert {name: (cache / name).read_bytes() for name in CONTENT} == CONTENT
    server.asked.clear()
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert (code, server.asked) == (0, []) and "All weights are there" in shown
    code, shown = cli("weights", "list")
    assert code == 0 and f"Cache folder: {cache}" in shown
    assert "sam_vit_b_01ec64.pth 0.1 MB intact" in shown


def test_without_a_terminal_yes_is_asked_for(
    server: WeightsServer, cache: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, shown = cli("weights", "fetch", *SETTINGS)
    assert code == 2 and "no terminal" in shown
    assert f"weights fetch {' '.join(SETTINGS)} --yes" in shown
    assert not cache.exists() or not any(cache.iterdir())


def test_a_damaged_file_is_listed_and_fetched_again(
    server: WeightsServer, cache: Path, cli: Cli
) -> None:
    cli("weights", "fetch", "--yes", *SETTINGS)
    (cache / "sam_vit_b_01ec64.pth").write_bytes(b"damaged")
    code, shown = cli("weights", "list", *SETTINGS)
    assert code == 0 and "damaged: sha256" in shown
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert code == 0, shown
    assert (cache / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT["sam_vit_b_01ec64.pth"]


def test_one_refusal_does_not_keep_the_others_away(
    server: WeightsServer, cache: Path, cli: Cli
) -> None:
    server.files["sam_vit_b_01ec64.pth"].faults = deque(["404"])
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert code == 1 and "404 Not Found" in shown and "Traceback" not in shown
    assert (cache / "groundingdino_swint_ogc.pth").is_file()


def test_offline_is_one_message(
    server: WeightsServer, cache: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOLABELS_MIRROR", "http://127.0.0.1:1")
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert code == 1 and shown.count("no connection") == 1
    assert "copy its cache folder" in shown and "Traceback" not in shown
    monkeypatch.setenv("PSEUDOLABELS_MIRROR", "nowhere")
    code, shown = cli("weights", "fetch", "--yes", *SETTINGS)
    assert code == 2 and "correct PSEUDOLABELS_MIRROR" in shown


def test_list_all_says_where_each_comes_from(server: WeightsServer, cache: Path, cli: Cli) -> None:
    code, shown = cli("weights", "list", "--all")
    assert code == 0
    for name in CONTENT:
        assert f"http://127.0.0.1:1/{name}" in shown
    code, shown = cli("weights", "list")
    assert "No weights" in shown


def test_a_run_without_its_weights_names_the_command(cache: Path, cli: Cli) -> None:
    code, shown = cli("run", "--preset", "small")
    assert code == 1
    assert "sam_vit_b_01ec64.pth" in shown and "bert-base-uncased" in shown
    assert "`pseudolabels weights fetch --preset small`, or add --fetch" in shown
    assert not Path("runs").exists()


def test_a_run_fetches_if_asked(server: WeightsServer, cache: Path, cli: Cli) -> None:
    code, shown = cli("run", "--fetch", "--dataset", "refytvos", "--root", "none", *SETTINGS)
    # The weights are there; the data set is not.
    assert code == 1 and "none" in shown
    assert {path.name for path in cache.iterdir() if path.suffix == ".pth"} == set(CONTENT)


def test_a_device_that_is_missing_ends_a_run_before_anything_starts(
    server: WeightsServer, cache: Path, cli: Cli
) -> None:
    code, shown = cli("run", "--device", "cuda:99", "--fetch", *SETTINGS)
    assert code == 2 and "not on this machine" in shown
    assert server.asked == [] and not Path("runs").exists()


def test_preset_and_config_together_are_refused(cache: Path, cli: Cli) -> None:
    for command in (("run",), ("doctor",), ("weights", "fetch"), ("weights", "list")):
        code, shown = cli(*command, "--preset", "base", "--config", "x.toml")
        assert code == 2 and "give one of them" in shown
