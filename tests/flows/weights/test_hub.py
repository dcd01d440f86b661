"""Folders from a server that lists repositories as Hugging Face does."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.progress import Silent
from flows.weights.fetch import fetch, plan_fetch
from flows.weights.hub import MANIFEST, ask_hub
from flows.weights.needs import Need, is_there
from flows.weights.request import Downloads, UnreachableError, open_client
from flows.weights.state import state_of, stored_digests
from pipeline.errors import CheckpointError
from tests.fakes.weights_server import File, WeightsServer

NAME = "google-bert/bert-base-uncased"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "model.safetensors": b"weights" * 5000,
    "pytorch_model.bin": b"pickle",
    "README.md": b"words",
}


@pytest.fixture
def hub(server: WeightsServer, monkeypatch: pytest.MonkeyPatch) -> WeightsServer:
    server.files = {name: File(content) for name, content in FILES.items()}
    server.repositories[NAME] = list(FILES)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return server


@pytest.fixture
def shared() -> Iterator[Downloads]:
    with open_client() as client:
        yield Downloads(client)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_comes_whole_with_only_the_files_that_are_used(
    hub: WeightsServer, cache: Path
) -> None:
    need = Need("student", cache / "bert-base-uncased")
    fetch(plan_fetch([need]), Silent())
    assert names(need.path) == {"config.json", "tokenizer.json", "model.safetensors", MANIFEST}
    assert (need.path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert state_of(need, stored_digests().of_file).words == "intact"
    (need.path / "model.safetensors").write_bytes(b"")
    assert "model.safetensors has sha256" in state_of(need, stored_digests().of_file).words
    fetch(plan_fetch([need]), Silent())
    assert state_of(need, stored_digests().of_file).words == "intact"
    (need.path / "model.safetensors").unlink()
    assert state_of(need, stored_digests().of_file).words == "incomplete"


def test_a_tokenizer_is_fetched_without_weights_and_completed_later(
    hub: WeightsServer, cache: Path
) -> None:
    place = cache / "bert-base-uncased"
    fetch(plan_fetch([Need("ground", place, tokenizer_only=True)]), Silent())
    assert names(place) == {"config.json", "tokenizer.json", MANIFEST}
    need = Need("student", place)
    assert not is_there(need)
    fetch(plan_fetch([need]), Silent())
    assert is_there(need)


def test_a_folder_of_the_users_own_is_not_replaced(hub: WeightsServer, cache: Path) -> None:
    need = Need("student", cache / "bert-base-uncased")
    need.path.mkdir(parents=True)
    (need.path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="did not write; expected no folder"):
        fetch(plan_fetch([need]), Silent())
    assert names(need.path) == {"notes.txt"}


def test_a_file_that_is_not_the_listed_one_keeps_the_folder_away(
    hub: WeightsServer, cache: Path
) -> None:
    need = Need("student", cache / "bert-base-uncased")
    plan = plan_fetch([need])
    hub.files["model.safetensors"].content = b"another" * 5000
    with pytest.raises(CheckpointError, match=r"bert-base-uncased/model\.safetensors: .* sha256"):
        fetch(plan, Silent())
    assert not need.path.exists()
    hub.files["model.safetensors"].content = FILES["model.safetensors"]
    fetch(plan_fetch([need]), Silent())
    assert is_there(need)


def test_refusals_name_the_repository_and_the_token(hub: WeightsServer, cache: Path) -> None:
    hub.repositories.clear()
    with pytest.raises(CheckpointError, match=rf"{NAME}: no such repository.*HF_TOKEN"):
        ask_hub(Need("ground", cache / "bert-base-uncased"))


def test_without_a_network_there_is_one_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="no connection"):
        ask_hub(Need("ground", cache / "bert-base-uncased"))


def test_the_revision_is_kept(hub: WeightsServer, cache: Path) -> None:
    hub.files["tokenizer.json"].faults = deque(["cut"])
    need = Need("ground", cache / "bert-base-uncased", tokenizer_only=True)
    fetch(plan_fetch([need]), Silent())
    note = json.loads((need.path / MANIFEST).read_text())
    assert (note["repository"], len(note["revision"]), len(note["files"])) == (NAME, 40, 2)


def test_digests_are_computed_in_a_cache_that_may_not_be_written_to(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir(parents=True)
    (cache / "resnet50-0676ba61.pth").write_bytes(b"x")
    monkeypatch.setattr("flows.weights.state.os.access", lambda place, mode: False)
    state = state_of(Need("student", cache / "resnet50-0676ba61.pth"), stored_digests().of_file)
    assert not state.well and "expected 0676ba61…" in state.words
    assert not (cache.parent / "digests.json").exists()
