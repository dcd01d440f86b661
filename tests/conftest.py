"""What every test may use: the folder of real data, where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
