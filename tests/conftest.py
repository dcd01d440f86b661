"""What every test may use: the folder of real data, where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from benchmarks.data.object_store import BUCKET, s3_server
from flows.orchestration.servers import server
from tests.fakes.disk import Disk

settings.register_profile("project", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("project")

# Prefect reads its settings when it is first imported, which may be by any test module.
server.quiet(os.environ)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Notes in which order the test flushes and renames files."""
    return Disk(monkeypatch)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real data beside the repository, or at PSEUDOLABELS_REAL_DATA; tests skip without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PSEUDOLABELS_REAL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PSEUDOLABELS_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment variables of an S3 server, which is started for the first test that asks."""
    with s3_server(tmp_path_factory.mktemp("store")) as variables:
        yield variables


@pytest.fixture
def store_url(
    store_server: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An address in the store at which nothing lies, and a cache folder of the test's own."""
    for name, value in store_server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PSEUDOLABELS_CACHE", str(tmp_path / "cache"))
    return f"s3://{BUCKET}/{uuid4().hex}"
