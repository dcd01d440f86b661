"""Emits events of a run, for automations: a receipt, an outcome, and a fall of the kept share.

The resource of all of them is ``pseudolabels.run.<key>``; related are the flow run and its tags.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import emit_event

from flows.outcome import RunOutcome
from flows.report.outcome_page import kept_share
from pipeline.types import Receipt

RECEIPT = "pseudolabels.receipt"
OUTCOME = "pseudolabels.outcome"
KEPT_SHARE_FELL = "pseudolabels.kept-share.fell"

KEPT = "pseudolabels.kept"
"""Label of a flow run: the share of frames with a mask, in [0, 1]."""

FALL = 0.05
"""A kept share that is lower by more than this than at the run's last flow run has fallen."""


def tell_receipt(receipt: Receipt, run_key: str) -> None:
    """Emits the event of a receipt: a stage has finished a shard, or the whole run."""
    payload = {
        "stage": receipt.stage,
        "shard": receipt.shard,
        "videos": len(receipt.videos),
        "frames": receipt.counts.get("frames", 0.0),
        "seconds": round(receipt.seconds, 3),
        "skipped": dict(receipt.skipped),
    }
    _emit(RECEIPT, run_key, payload)


def tell_outcome(outcome: RunOutcome, flow_run: FlowRun, run_key: str) -> None:
    """Emits the event of a run's end, and another one if it kept a smaller share than before."""
    kept = kept_share(outcome)
    with get_client(sync_client=True) as client:
        earlier = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                name=FlowRunFilterName(any_=[flow_run.name]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])),
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=5,
        )
        client.update_flow_run_labels(flow_run.id, {KEPT: round(kept, 6)})
    payload = {"kept_share": kept, "skipped": len(outcome.skipped)}
    _emit(OUTCOME, run_key, payload)
    before = _kept_before(earlier, flow_run.id)
    if before is not None and kept < before - FALL:
        _emit(KEPT_SHARE_FELL, run_key, {**payload, "kept_share_before": before})


def _kept_before(earlier: list[FlowRun], me: UUID) -> float | None:
    """Returns the share that the last flow run of the same run kept; None if it is not known."""
    for flow_run in earlier:
        kept = flow_run.labels.get(KEPT)
        if flow_run.id != me and isinstance(kept, int | float):
            return float(kept)
    return None


def _emit(event: str, run_key: str, payload: dict[str, Any]) -> None:
    resource = {
        "prefect.resource.id": f"pseudolabels.run.{run_key}",
        "prefect.resource.name": run_key,
    }
    emit_event(event=event, resource=resource, payload=payload)
