"""Does the work of flow runs that the Prefect UI started: in a process of their own, no terminal.

A flow run that is retried has the same parameters, and does only what has no receipt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed

from flows.labelling.opened_run import WARNING, opened_run
from flows.orchestration import signals
from flows.orchestration.launching import execute_observed
from flows.orchestration.prefect_tasks import failed_state
from flows.orchestration.ray.ray_cluster import check_runner
from flows.orchestration.servers.connection import Connection
from flows.orchestration.watching import flow_runs, known_runs
from flows.orchestration.watching.final_states import final_state
from flows.orchestration.watching.run_log import Logged, log
from flows.planning.stage_selection import scope_of
from flows.planning.time_estimate import forecast
from flows.progress import Silent
from flows.weights.needs import check_weights, fetch_command
from pipeline.config import RunConfig
from pipeline.errors import PseudoLabelError

HOW_TO_GO_ON = (
    "Interrupted. Finished work is kept. To go on, retry this flow run, run the flow resume with"
    " run={folder}, or give the command:\n  pseudolabels resume {folder}"
)


GRACE_SECONDS = 4.0
"""From a cancellation to the end of the process, at most, but for the last words. Prefect looks
every three seconds whether it has ended."""

LAST_WORDS_SECONDS = 1.0


@contextmanager
def told_how_to_go_on(words: str) -> Iterator[None]:
    """Ends the process in time after a cancellation in the block, and logs how to go on."""

    def last_words() -> None:
        log(logging.WARNING, words)
        # The log is sent in batches, and the process may be ended before the next one.
        sending = threading.Thread(target=APILogHandler().flush, daemon=True)
        sending.start()
        sending.join(LAST_WORDS_SECONDS)

    try:
        with signals.watched(last_words, GRACE_SECONDS):
            yield
    except (KeyboardInterrupt, TerminationSignal):
        last_words()
        raise


def label_served(
    config: RunConfig,
    preset: str | None = None,
    from_stage: str | None = None,
    to_stage: str | None = None,
    retry_skipped: bool = False,
    forget_missing: bool = False,
) -> State[Any]:
    """Does a run inside the current flow run, and returns the state that it ends in."""
    flow_run, connection = flow_runs.current(), Connection.of_settings(say)
    folder = config.run_folder
    first = None if flow_run is not None and begun(flow_run) else from_stage

    def work() -> State[Any]:
        scope = scope_of(config, first, to_stage)
        check_runner(config)
        check_weights(config, fetch_command(None, preset, ()), "--fetch")
        with opened_run(
            config, say, retry_skipped=retry_skipped, scope=scope, forget_missing=forget_missing
        ) as context:
            if flow_run is not None and first is not None:
                connection.tell(lambda: flow_runs.note_begun(flow_run))
            if not context.the_plan.pending():
                return Completed(message=f"Everything in {folder} was done before.")
            context.progress = Logged(Silent())
            if estimate := forecast(context.the_plan):
                say(estimate)
            return final_state(execute_observed(context, connection))

    with told_how_to_go_on(HOW_TO_GO_ON.format(folder=folder)):
        observe_run(connection, config, preset)
        return done_or_failed(work, f"The run {folder}")


def observe_run(connection: Connection, config: RunConfig, preset: str | None) -> None:
    """Tells the server which process does a run, and remembers the run."""
    known_runs.remember(config.run_folder)
    observe(connection, config.run_folder, flow_runs.tags_of(config, preset))


def observe(connection: Connection, folder: Path, tags: list[str]) -> None:
    """Tells the server about this process, and marks flow runs whose process is gone."""
    flow_run = flow_runs.current()
    if flow_run is None:
        return
    connection.tell(lambda: flow_runs.introduce(flow_run, folder, tags))
    for name in connection.tell(flow_runs.mark_crashed) or ():
        say(f"The flow run {name!r} has crashed: its process is gone.")


def done_or_failed(work: Callable[[], State[Any]], what: str) -> State[Any]:
    """Does the work of a flow run. Returns its state, or a failed one with the reason."""
    try:
        return work()
    except PseudoLabelError as error:
        return failed_state(error, what, traceback_too=False)


def begun(flow_run: FlowRun) -> bool:
    """Whether an earlier attempt of the flow run has removed the receipts of stages to do again."""
    return flow_run.labels.get(flow_runs.BEGUN) is True


def say(line: str) -> None:
    """Writes a line to the log of the flow run."""
    level = logging.WARNING if line.startswith(WARNING) else logging.INFO
    log(level, line)
