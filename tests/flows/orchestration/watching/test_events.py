from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from flows.orchestration.watching import events
from flows.outcome import RunOutcome, SampleOutcome
from pipeline.types import Receipt, Status


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: found.append(event))
    return found


def outcome(present: int, absent: int) -> RunOutcome:
    statuses = Counter({Status.PRESENT: present, Status.ABSENT: absent})
    return RunOutcome({("clip", "0"): SampleOutcome(statuses)})


def test_a_receipt_is_told_with_what_it_counts(emitted: list[dict[str, Any]]) -> None:
    counts = {"frames": 7.0}
    receipt = Receipt(
        "ground", "00000", "print", ("a", "b"), skipped={"b": "broken"}, counts=counts, seconds=1.5
    )
    events.tell_receipt(receipt, "shapes-train-1234")
    [event] = emitted
    assert event["event"] == "pseudolabels.receipt"
    assert event["resource"]["prefect.resource.id"] == "pseudolabels.run.shapes-train-1234"
    assert event["payload"] == {
        "stage": "ground",
        "shard": "00000",
        "videos": 2,
        "frames": 7.0,
        "seconds": 1.5,
        "skipped": {"b": "broken"},
    }


def test_a_fall_of_the_kept_share_is_told(
    emitted: list[dict[str, Any]], prefect_server: str
) -> None:
    @flow(name="label")
    def label() -> None: ...

    name = f"a run {uuid4()}"
    with (
        temporary_settings({PREFECT_API_URL: prefect_server}),
        get_client(sync_client=True) as client,
    ):
        for present in (90, 88, 70):
            made = client.create_flow_run(label, name=name, state=Running())
            events.tell_outcome(outcome(present, 100 - present), made, "key")
            client.set_flow_run_state(made.id, Completed(), force=True)
    names = [event["event"] for event in emitted]
    assert names == [*[events.OUTCOME] * 3, events.KEPT_SHARE_FELL]
    payload = emitted[-1]["payload"]
    assert (payload["kept_share"], payload["kept_share_before"]) == (0.7, 0.88)
