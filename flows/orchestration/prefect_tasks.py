"""Runs the jobs of a plan in this process, each as a task run of the current flow run."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.context import RunContext
from flows.labelling.executor import Summary, in_words
from flows.labelling.jobs import attempt, do_job
from flows.orchestration.limits import Limits
from flows.orchestration.servers import reports
from flows.orchestration.servers.connection import Connection
from flows.orchestration.watching import artifacts, events, flow_runs, known_runs
from flows.orchestration.watching.run_log import log
from flows.outcome import RunOutcome, advice, outcome_lines, read_outcome
from flows.planning.plan import Job
from flows.planning.stages import SHARD_STAGES, STAGES
from flows.report.outcome_page import outcome_page
from pipeline.text import read_text
from storage.run.ledger import Ledger

UNCACHED: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}
"""The ledger decides what is done, so Prefect keeps no results."""


class PrefectTasks:
    """A launcher that runs each job in this process, as a task run of the current flow.

    Args:
        context: of the run.
        connection: to the Prefect server.
    """

    def __init__(self, context: RunContext, connection: Connection) -> None:
        self._context, self._connection = context, connection
        self._folder = context.config.run_folder
        self._name, self._key = str(self._folder), known_runs.key_of(self._folder)
        self._states: dict[tuple[str, str], State[Any]] = {}
        self._shown: artifacts.StageProgress | None = None
        due = {job.stage for job in context.the_plan.pending()}
        self._limits = connection.tell(lambda: Limits.of(context.config, due)) or Limits({})
        context.publish = self._publish

    def ended(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        for job in jobs:
            yield job, self._done_here(job)

    def stage_begins(self, stage: str, videos: int, done: int) -> None:
        self._shown = self._connection.tell(
            lambda: artifacts.StageProgress(self._key, stage, videos, done)
        )

    def videos_done(self, count: int) -> None:
        shown = self._shown
        if shown is not None:
            self._connection.tell(lambda: shown.advance(count))

    def run_ends(self, summary: Summary) -> None:
        """Shows the stage table, what came of the run, samples, and the report's address."""
        from flows.report.samples import markdown_page

        tell, paths = self._connection.tell, self._context.paths
        ledger, jobs = Ledger(paths.folder), self._context.the_plan.jobs
        receipts = [
            receipt
            for stage in STAGES
            for job in jobs.get(stage, ())
            if (receipt := ledger.receipt(stage, job.shard.name)) is not None
        ]
        tell(lambda: artifacts.stage_table(receipts, self._key, self._name))
        if "rank" in self._context.the_plan.stages:
            self._show_outcome(summary)
        if samples := markdown_page(self._context):
            tell(lambda: artifacts.page(samples, self._key, "samples", f"Samples of {self._name}"))
        if paths.report.exists():
            tell(self._show_report)

    def _show_outcome(self, summary: Summary) -> None:
        config = self._context.config
        summary.outcome = outcome = read_outcome(config, config.dataset.only_videos or None)
        for line in outcome_lines(outcome):
            log(logging.INFO, line)
        for line in advice(outcome, config):
            log(logging.WARNING, line)
        text = outcome_page(outcome, self._metrics(), summary.failed)
        tell, description = self._connection.tell, f"What came of {self._name}"
        tell(lambda: artifacts.page(text, self._key, "outcome", description))
        tell(lambda: self._tell_outcome(outcome))

    def _tell_outcome(self, outcome: RunOutcome) -> None:
        if (flow_run := flow_runs.current()) is not None:
            events.tell_outcome(outcome, flow_run, self._key)

    def _metrics(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = json.loads(read_text(self._context.paths.metrics))
        except (OSError, ValueError):
            return {}
        return found

    def _show_report(self) -> None:
        path, address = self._context.paths.report, reports.address_of(self._folder)
        if address is not None:
            artifacts.report_link(address, self._key, self._name)
            return
        text = f"`{path.resolve()}`\n\n`pseudolabels ui` gives it an address that a browser opens."
        artifacts.page(text, self._key, "report", f"Report of {self._name}")

    def _publish(self, name: str, markdown: str) -> None:
        tell, description = self._connection.tell, f"Training of {name}"
        tell(lambda: artifacts.page(markdown, self._key, f"{name}-training", description))

    def _done_here(self, job: Job) -> Exception | None:
        if not self._connection.present():
            return attempt(job, self._context)

        @task(name=job.stage, task_run_name=job.name, **UNCACHED)
        def work() -> State[Any] | None:
            with self._slot(job):
                return failed_or_none(job, self._context)

        return self._noted(job, work(return_state=True, wait_for=self._before(job)))

    def _slot(self, job: Job) -> AbstractContextManager[None]:
        """What holds a slot of the limits that the job falls under."""
        return self._limits.slot(job.stage)

    def _noted(self, job: Job, state: State[Any]) -> Exception | None:
        """None for a job that completed, else its error."""
        if state.is_completed():
            self._states[job.stage, job.shard.name] = state
            receipt = Ledger(self._folder).receipt(job.stage, job.shard.name)
            if receipt is not None:
                events.tell_receipt(receipt, self._key)
            return None
        error = state.result(raise_on_failure=False)
        return error if isinstance(error, Exception) else RuntimeError(state.message)

    def _before(self, job: Job) -> list[State[Any]]:
        """States that the job follows. They make the edges of the run graph."""
        place = STAGES.index(job.stage)
        if job.stage in SHARD_STAGES:
            earlier = [self._states.get((stage, job.shard.name)) for stage in STAGES[:place]]
            return [state for state in earlier if state is not None][-1:]
        for stage in reversed(STAGES[:place]):
            found = [state for (name, _), state in self._states.items() if name == stage]
            if found:
                return found
        return []


def failed_or_none(job: Job, context: RunContext) -> State[Any] | None:
    """Does a job. Returns a failed state whose message is the reason in one line; None if it went
    well. The log has the reason, and the traceback below.
    """
    try:
        do_job(job, context)
    except Exception as error:  # noqa: BLE001 - the state carries it
        return failed_state(error, job.name)
    return None


def failed_state(error: Exception, what: str, traceback_too: bool = True) -> State[Any]:
    """Returns the state of what has failed. Logs the reason, with the traceback below."""
    reason = " ".join(in_words(error).split())
    trace = "\n\n" + "".join(traceback.format_exception(error)) if traceback_too else ""
    log(logging.ERROR, f"{what} failed: {reason}{trace}")
    return Failed(message=reason, data=error)
