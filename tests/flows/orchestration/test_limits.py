from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from flows.orchestration import limits
from flows.orchestration.limits import Limits, endpoint_limit, gpu_limit
from pipeline.config import load_config

ENDPOINT = ["augment.source=endpoint", 'augment.endpoint="http://host:8000/v1"']
ENDPOINT += ["augment.endpoint_model=m"]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the limits of which slots were taken; every limit exists."""
    names: list[str] = []

    @contextmanager
    def concurrency(wanted: list[str], occupy: int) -> Iterator[None]:
        names.extend(wanted)
        yield
        names.append("free")

    monkeypatch.setattr(limits, "concurrency", concurrency)
    monkeypatch.setattr(limits, "_exists", lambda name: True)
    return names


def test_stages_with_models_hold_a_slot_of_the_gpu_and_the_captioner_one_of_its_endpoint(
    held: list[str],
) -> None:
    config = load_config(None, ["device=cuda", *ENDPOINT])
    found = Limits.of(config, {"augment", "ground", "rank"})
    for stage in ("augment", "ground", "rank"):
        with found.slot(stage):
            held.append(stage)
    assert held == [
        *(endpoint_limit("http://host:8000/v1"), "augment", "free"),
        *(gpu_limit(), "ground", "free"),
        "rank",
    ]
    assert endpoint_limit("http://host:8000/v1") == "endpoint-host:8000"


def test_a_run_on_a_cpu_asks_for_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_exists", lambda name: pytest.fail(f"{name} was asked for"))
    config = load_config(None, ["device=cpu"])
    with Limits.of(config, {"augment", "ground"}).slot("ground"):
        pass


def test_a_limit_that_the_server_does_not_have_holds_nothing(
    held: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_exists", lambda name: False)
    with Limits.of(load_config(None, ["device=cuda"]), {"ground"}).slot("ground"):
        pass
    assert held == []


def test_a_lost_server_stops_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("refused")

    monkeypatch.setattr(limits, "concurrency", lost)
    with Limits({"ground": ("gpu-here",)}).slot("ground"):
        pass
