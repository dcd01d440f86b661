"""A server of weights, and a cache folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.weights import download
from tests.fakes.weights_server import WeightsServer


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    found = WeightsServer()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "cache"))
    for name in ("PSEUDOLABELS_MIRROR", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "_pause", lambda state: 0.0)
    return tmp_path / "cache" / "weights"
