"""Stage ``report`` of a run: ``report/index.html``."""

from __future__ import annotations

from flows.context import RunContext
from flows.planning.plan import Job
from flows.planning.receipts import Outcome


def run(job: Job, context: RunContext, outcome: Outcome) -> None:
    """Writes the report from what the run has."""
    from flows.report import write_report

    outcome.counts.update(write_report(context))
