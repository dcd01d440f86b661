"""Runs the jobs of a plan in this process, as task runs of the current flow run."""

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
from flows.labelling.executor import FATAL, Summary, in_words
from flows.labelling.jobs import attempt
from flows.orchestration.limits import Limits
from flows.orchestration.servers import reports
from flows.orchestration.servers.connection import Connection
from flows.orchestration.task_groups import groups_of, name_of
from flows.orchestration.watching import artifacts, events, flow_runs, known_runs
from flows.orchestration.watching.run_log import log
from flows.outcome import RunOutcome, advice, outcome_lines, read_outcome
from flows.planning.plan import Job
from flows.planning.stages import SHARD_STAGES, STAGES
from flows.report.outcome_page import outcome_page
from flows.report.stage_table import stage_rows
from pipeline.text import read_text
from storage.run.ledger import Ledger

UNCACHED: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}
"""The ledger decides what is done, so Prefect keeps no results."""


class PrefectTasks:
    """A launcher that runs jobs in this process, as task runs of the current flow: one for each
    job, or, of very many jobs, one for each group.

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
        for group in groups_of(jobs):
            yield from self._done_here(group)

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
        rows: list[dict[str, Any]] = []
        for stage in STAGES:
            shards = {job.shard.name for job in jobs.get(stage, ())}
            rows += stage_rows([item for item in ledger.each(stage) if item.shard in shards])
        tell(lambda: artifacts.stage_table(rows, self._key, self._name))
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

    def _done_here(self, group: Sequence[Job]) -> Iterator[tuple[Job, Exception | None]]:
        if not self._connection.present():
            for job in group:
                yield job, attempt(job, self._context)
            return
        ended: dict[str, Exception | None] = {}

        @task(name=group[0].stage, task_run_name=name_of(group), **UNCACHED)
        def work() -> State[Any] | None:
            for job in group:
                with self._slot(job):
                    ended[job.shard.name] = error = attempt(job, self._context)
                if isinstance(error, FATAL):
                    break
            return failed_or_none(group, ended)

        state = work(return_state=True, wait_for=self._before(group))
        for job in group:
            if job.shard.name in ended and ended[job.shard.name] is not None:
                yield job, ended[job.shard.name]
            else:
                yield job, self._noted(job, state, job.shard.name in ended)

    def _slot(self, job: Job) -> AbstractContextManager[None]:
        """What holds a slot of the limits that the job falls under."""
        return self._limits.slot(job.stage)

    def _noted(self, job: Job, state: State[Any], done: bool = False) -> Exception | None:
        """Returns None for a job that completed, else the error of its task run.

        Args:
            done: the job is done, whatever came of others in its task run.
        """
        if done or state.is_completed():
            if state.is_completed():
                # Prefect starts no task run after one that failed.
                self._states[job.stage, job.shard.name] = state
            receipt = Ledger(self._folder).receipt(job.stage, job.shard.name)
            if receipt is not None:
                events.tell_receipt(receipt, self._key)
            return None
        error = state.result(raise_on_failure=False)
        return error if isinstance(error, Exception) else RuntimeError(state.message)

    def _before(self, group: Sequence[Job]) -> list[State[Any]]:
        """States that jobs follow. They make the edges of the run graph."""
        place = STAGES.index(group[0].stage)
        if group[0].stage in SHARD_STAGES:
            found = [self._last_state(job.shard.name, STAGES[:place]) for job in group]
            return list({id(state): state for state in found if state is not None}.values())
        for stage in reversed(STAGES[:place]):
            states = {
                id(state): state for (name, _), state in self._states.items() if name == stage
            }
            if states:
                return list(states.values())
        return []

    def _last_state(self, shard: str, stages: Sequence[str]) -> State[Any] | None:
        states = (self._states.get((stage, shard)) for stage in reversed(stages))
        return next((state for state in states if state is not None), None)


def failed_or_none(
    group: Sequence[Job], ended: Mapping[str, Exception | None]
) -> State[Any] | None:
    """Returns a failed state whose message is the reason in one line; None if all jobs went well.
    The log has each reason, and the traceback below.

    Args:
        ended: shard -> the error of its job, or None.
    """
    failed = [(job, error) for job in group if (error := ended.get(job.shard.name)) is not None]
    states = [failed_state(error, job.name) for job, error in failed]
    if len(group) == 1 or not states:
        return states[0] if states else None
    return Failed(
        message=f"{len(failed)} of {len(group)} shards failed, the first: {states[0].message}",
        data=failed[0][1],
    )


def failed_state(error: Exception, what: str, traceback_too: bool = True) -> State[Any]:
    """Returns the state of what has failed. Logs the reason, with the traceback below."""
    reason = " ".join(in_words(error).split())
    trace = "\n\n" + "".join(traceback.format_exception(error)) if traceback_too else ""
    log(logging.ERROR, f"{what} failed: {reason}{trace}")
    return Failed(message=reason, data=error)
