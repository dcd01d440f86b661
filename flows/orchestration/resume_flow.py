"""The Prefect flow ``resume``: goes on with a run, or lists the runs that can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.orchestration.parameters import LastStage, stage_or_none
from flows.orchestration.resumable import resumable
from flows.orchestration.served import done_or_failed, label_served, say
from flows.orchestration.watching import artifacts
from flows.planning.run_config import config_of_run
from flows.report.outcome_page import table
from pipeline.store_urls import shown


@flow(name="resume", flow_run_name="resume {run}", persist_result=False)
def resume(
    run: str = "",
    to_stage: LastStage = "the last",
    retry_skipped: bool = False,
    overrides: tuple[str, ...] = (),
) -> State[Any]:
    """Goes on with a run that was interrupted or failed. Without a run, lists those that can go on.

    Args:
        run: Folder of the run, such as `runs/shapes-train`. Empty lists the runs that can go on.
        to_stage: Stop after this stage.
        retry_skipped: Try skipped videos again.
        overrides: Settings, such as `rank.threshold=0.6`.

    Returns:
        *Completed*, a name that says what was lost, or *Failed* with the reason.
    """
    if not run:
        return _list()

    def work() -> State[Any]:
        config = config_of_run(Path(run).expanduser(), overrides)
        return label_served(config, None, None, stage_or_none(to_stage), retry_skipped)

    return done_or_failed(work, f"The run {run}")


def _list() -> State[Any]:
    found = [(shown(folder), words) for folder, words in resumable()]
    for folder, words in found:
        say(f"{folder}: {words}")
    page = table(("run", "what is left"), found) if found else "Every known run is done."
    artifacts.page(page, "pseudolabels", "runs-to-resume", "Runs that can go on")
    count = "1 run" if len(found) == 1 else f"{len(found)} runs"
    return Completed(message=f"{count} can go on; the artifact and the log name them.")
