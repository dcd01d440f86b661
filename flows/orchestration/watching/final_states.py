"""Names the states that flow runs end in."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.labelling.executor import Summary
from flows.outcome import outcome_lines


def final_state(summary: Summary) -> State[Any]:
    """Returns the final state of a run: *Completed*, or a name that says what was lost, such as
    *Completed with 2 skipped*.
    """
    outcome, failed = summary.outcome, len(summary.failed)
    skipped = len(outcome.skipped) if outcome is not None else 0
    lost = [f"{skipped} skipped"] * bool(skipped) + [f"{failed} failed"] * bool(failed)
    if outcome is not None and outcome.is_nothing:
        lost.insert(0, "no masks")
    message = outcome_lines(outcome)[0] if outcome is not None else "Everything asked for is done."
    if failed:
        message += "; failed: " + ", ".join(f"{stage} {shard}" for stage, shard in summary.failed)
    name = f"Completed with {', '.join(lost)}" if lost else "Completed"
    return Completed(name=name, message=message)
