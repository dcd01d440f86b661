"""The Prefect flow ``label``: one task run per (stage, shard).

The ledger decides what is done; Prefect shows it. A task run calls the same function as a run
without Prefect, and retries are in that function. If the server is lost, the run continues without
it.
"""

from __future__ import annotations

import logging
import signal
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal

from flows.context import RunContext
from flows.labelling.executor import InProcess, Summary, execute
from flows.orchestration import signals
from flows.orchestration.launching import execute_observed
from flows.orchestration.parameters import (
    Dataset,
    FirstStage,
    LastStage,
    Preset,
    config_of_form,
    preset_or_none,
    stage_or_none,
)
from flows.orchestration.served import done_or_failed, label_served, observe_run
from flows.orchestration.servers.connection import LOST, Connection, is_lost
from flows.orchestration.watching import flow_runs
from flows.orchestration.watching.final_states import final_state
from flows.orchestration.watching.run_log import Logged
from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGES
from pipeline.store_urls import shown

logger = logging.getLogger(__name__)


@flow(
    name="label",
    flow_run_name="{dataset} {split} in {out}/{dataset}-{split}",
    persist_result=False,
    log_prints=False,
)
def label(
    dataset: Dataset = "shapes",
    root: str = "",
    split: str = "train",
    out: str = "runs",
    preset: Preset = "default",
    overrides: tuple[str, ...] = (),
    only_videos: tuple[str, ...] = (),
    from_stage: FirstStage = "what is due",
    to_stage: LastStage = "the last",
    retry_skipped: bool = False,
    forget_missing: bool = False,
    config: str = "",
) -> State[Any]:
    """Makes the pseudo-masks of a data set, trains a student, and writes metrics and a report.

    Finished work is kept: a second run of the same folder does only what is not done.

    Args:
        dataset: Name of the data set. `shapes` is rendered; the others need their folder.
        root: Folder of the data set, on the machine that does the run, or its address, such as
            `s3://bucket/mevis`.
        split: Split to label.
        out: Folder that holds runs. The run's own folder in it is named after data set and split.
        preset: Configuration for a kind of machine. The default uses the demo models.
        overrides: Settings, such as `rank.threshold=0.6`.
        only_videos: Ids of the videos to label. An empty list stands for all.
        from_stage: Run this stage and the following ones again, even if they are done.
        to_stage: Stop after this stage.
        retry_skipped: Try skipped videos again.
        forget_missing: Remove the results of videos that the data set no longer has.
        config: TOML file with settings, in place of a preset.

    Returns:
        *Completed*, a name that says what was lost, or *Failed* with the reason.
    """
    # Prefect sends a flow's function by value to Ray's workers, so it holds nothing but this call.
    chosen = preset_or_none(preset)
    return _label(
        chosen,
        stage_or_none(from_stage),
        stage_or_none(to_stage),
        retry_skipped,
        forget_missing,
        form=(dataset, root, split, out, chosen, config, only_videos, overrides),
    )


def _label(
    preset: str | None,
    from_stage: str | None,
    to_stage: str | None,
    retry_skipped: bool,
    forget_missing: bool,
    form: tuple[Any, ...],
) -> State[Any]:
    given = _given.get()
    if given is not None:
        return done_or_failed(given.run, f"The run {given.context.config.run_folder}")

    def work() -> State[Any]:
        resolved = config_of_form(*form)
        return label_served(resolved, preset, from_stage, to_stage, retry_skipped, forget_missing)

    return done_or_failed(work, "The run")


@dataclass
class _Given:
    """A run that this process has open, and what the flow over it came to.

    Prefect may fail to write down how a flow ended, and raise that in place of how it ended.
    """

    context: RunContext
    connection: Connection
    ended: Summary | BaseException | None = None

    def run(self) -> State[Any]:
        # Prefect's own handler of SIGTERM takes the flow for cancelled and tells nobody how to
        # go on.
        signals.install_handlers()
        self.context.progress = Logged(self.context.progress)
        observe_run(self.connection, self.context.config, self.context.preset)
        try:
            self.ended = execute_observed(self.context, self.connection)
        except BaseException as error:
            self.ended = error
            raise
        return final_state(self.ended)


_given: ContextVar[_Given | None] = ContextVar("_given", default=None)
"""The open run for the flow that this context calls. A flow of its own opens one by itself."""


def run_with_prefect(context: RunContext, api: str) -> Summary:
    """Runs the pending jobs as a run of the flow :func:`label`.

    If the server cannot be reached at the start or the end, the work is done without it.

    Args:
        context: of an open run, with a plan.
        api: address of the Prefect server's API.

    Raises:
        RunFailedError: as :func:`flows.labelling.executor.execute`.
    """
    given = _Given(context, Connection(api, context.progress.say))
    if not given.connection.present():
        return execute(context, InProcess(context))
    token = _given.set(given)
    try:
        # Prefect fills in what is in braces.
        name = flow_runs.name_of(context.config).replace("{", "{{").replace("}", "}}")
        label.with_options(flow_run_name=name)(**_parameters(context))
    except TerminationSignal as error:
        raise signals.Stopped(signal.SIGTERM) from error
    except (*LOST, RuntimeError) as error:
        if not is_lost(error):
            raise
        logger.warning("the Prefect server was lost: %s", error)
        if given.ended is None:
            given.connection.give_up()
            return execute(context, InProcess(context))
    finally:
        _given.reset(token)
    assert given.ended is not None, "the flow has ended"
    if isinstance(given.ended, BaseException):
        raise given.ended
    return given.ended


def _parameters(context: RunContext) -> dict[str, Any]:
    """Returns the parameters that describe an open run: another process does the same by them."""
    config, paths = context.config, RunPaths(context.config.run_folder)
    dataset = config.dataset
    return {
        "dataset": dataset.name,
        "root": "" if dataset.root is None else shown(dataset.root.absolute()),
        "split": dataset.split,
        "out": shown(config.out.absolute()),
        "config": str(paths.config.absolute()),
        "only_videos": dataset.only_videos,
        "to_stage": "the last" if (last := context.the_plan.stages[-1]) == STAGES[-1] else last,
    }
