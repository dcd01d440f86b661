"""Flow runs whose process is gone, on a real Prefect server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Pending, Running

from flows.orchestration.watching import flow_runs
from flows.orchestration.watching.flow_runs import FOLDER, PROCESS, TAG, is_gone, mark_crashed
from pipeline.config import load_config
from storage.run.held_file import STALE_SECONDS
from storage.run.owner import Owner

GONE = replace(Owner.here(), process=2**22 + 1)


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_server}), get_client(sync_client=True) as it:
        yield it


@flow(name="label")
def label() -> None: ...


def test_a_flow_run_of_a_process_that_is_gone_is_crashed(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    def begin(state: State[Any], owner: Owner | None) -> FlowRun:
        made = client.create_flow_run(label, state=state)
        if owner is not None:
            labels = {PROCESS: owner.as_text(), FOLDER: str(tmp_path)}
            client.update_flow_run_labels(made.id, {**labels})
        return made

    dead, alive = begin(Running(), GONE), begin(Running(), Owner.here())
    stopping, foreign = begin(Cancelling(), GONE), begin(Running(), None)
    assert {dead.name, stopping.name} <= set(mark_crashed())
    states = {run.id: client.read_flow_run(run.id).state for run in (dead, alive, stopping)}
    found = states[dead.id]
    assert found is not None
    assert found.is_crashed()
    assert "retry this flow run" in (found.message or "")
    assert [state.name for state in states.values() if state] == [
        "Crashed",
        "Running",
        "Cancelled",
    ]
    left = client.read_flow_run(foreign.id).state
    assert left is not None
    assert left.is_running()
    served = begin(Running(), GONE)
    assert mark_crashed(stopped=True) == [served.name]
    ended = client.read_flow_run(served.id).state
    assert ended is not None
    assert ended.is_cancelled()
    client.set_flow_run_state(alive.id, Cancelling(), force=True)


@pytest.mark.parametrize(
    ("tags", "age", "gone"),
    [
        ([TAG], STALE_SECONDS + 60, True),
        ([TAG], STALE_SECONDS / 2, False),
        ([], STALE_SECONDS + 60, False),  # of another project
    ],
)
def test_a_flow_run_that_was_handed_over_and_never_began_is_gone_after_a_while(
    tags: list[str], age: float, gone: bool
) -> None:
    then = datetime.now(UTC) - timedelta(seconds=age)
    pending: State[Any] = State(type=StateType.PENDING, timestamp=then)
    assert is_gone(FlowRun(flow_id=uuid4(), state=pending, tags=tags)) is gone
    # A retry: the labels are of the process before.
    labels: dict[str, Any] = {PROCESS: GONE.as_text(), FOLDER: "/runs"}
    retried = FlowRun(flow_id=uuid4(), state=Pending(), tags=[TAG], labels=labels)
    assert not is_gone(retried)
    odd: dict[str, Any] = {PROCESS: "{", FOLDER: "/runs"}
    assert not is_gone(FlowRun(flow_id=uuid4(), state=Running(), tags=[TAG], labels=odd))


def test_names_and_tags_say_which_run_it_is(tmp_path: Path) -> None:
    config = load_config(None, [f'out="{tmp_path}"', "dataset.split=valid"])
    assert flow_runs.name_of(config) == f"shapes valid in {tmp_path}/shapes-valid"
    tags = flow_runs.tags_of(config, "small")
    assert {"dataset:shapes", "split:valid", "preset:small", f"host:{os.uname().nodename}"} <= {
        *tags
    }
    assert not any(tag.startswith("preset:") for tag in flow_runs.tags_of(config))


def test_sources_without_git_have_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "_ROOT", tmp_path)
    assert flow_runs.git_revision() is None
