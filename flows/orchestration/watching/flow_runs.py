"""Says on the Prefect server whose process does a flow run, and marks those whose process is gone.

A flow run has labels with the process, the folder that it works on, and whether its work has begun.
A process that is killed tells the server nothing; the next one that looks marks its flow run as
*Crashed*.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.states import Cancelled, Crashed

from pipeline.config import RunConfig
from pipeline.errors import ObjectStoreError
from storage.run.held_file import STALE_SECONDS
from storage.run.lock import has_ended
from storage.run.owner import Owner

FLOWS = ("label", "train", "resume")
"""Names of this project's flows."""

TAG = "pseudolabels"
"""The tag of this project's deployments and their flow runs."""

PROCESS, FOLDER, BEGUN = "pseudolabels.process", "pseudolabels.folder", "pseudolabels.begun"
"""Labels of a flow run: the process as JSON, the folder that it writes to, and whether stages to do
again have lost their receipts."""

_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_PAGE = 200
_ROOT = Path(__file__).resolve().parents[2]

GONE = (
    "Its process ended without a word, as when it is killed or its machine stops. Finished work is"
    " kept; retry this flow run, or run `pseudolabels resume`, to go on."
)
"""The message of a crashed flow run."""

STOPPED = (
    "`pseudolabels serve` was ended. Finished work is kept; retry this flow run, or run"
    " `pseudolabels resume`, to go on."
)
"""The message of a flow run that ended with the process that served it."""


def name_of(config: RunConfig) -> str:
    """Returns the name of a flow run: data set, split and folder of the run."""
    dataset = config.dataset
    return f"{dataset.name} {dataset.split} in {config.run_folder}"


def tags_of(config: RunConfig, preset: str | None = None) -> list[str]:
    """Returns the tags of a flow run: data set, split, preset, git revision and host."""
    dataset, revision = config.dataset, git_revision()
    return [
        f"dataset:{dataset.name}",
        f"split:{dataset.split}",
        *([f"preset:{preset}"] if preset else []),
        *([f"git:{revision}"] if revision else []),
        f"host:{socket.gethostname()}",
    ]


def git_revision() -> str | None:
    """Returns the short git revision of this project's sources; None if they are not in git."""
    git = shutil.which("git")
    if git is None or not (_ROOT / ".git").exists():
        return None
    command = [git, "-C", str(_ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def current() -> FlowRun | None:
    """Returns the flow run that this code is in; None outside of one."""
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def introduce(flow_run: FlowRun, folder: Path, tags: Sequence[str]) -> None:
    """Writes this process, the folder that it works on, and tags to a flow run."""
    with get_client(sync_client=True) as client:
        mine = {PROCESS: Owner.here().as_text(), FOLDER: str(folder.absolute())}
        client.update_flow_run_labels(flow_run.id, {**mine})
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags}))


def note_begun(flow_run: FlowRun) -> None:
    """Writes to a flow run that its work has begun."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(flow_run.id, {BEGUN: True})


def mark_crashed(stopped: bool = False) -> list[str]:
    """Marks flow runs whose process is gone as *Crashed*, and as *Cancelled* if they were being
    cancelled. Returns their names.

    Args:
        stopped: whether they were ended on purpose, with what served them; all are *Cancelled*.
    """
    marked = []
    with get_client(sync_client=True) as client:
        for flow_run in list(_unfinished(client)):
            if not is_gone(flow_run):
                continue
            cancelling = flow_run.state is not None and flow_run.state.is_cancelling()
            message, kind = STOPPED if stopped else GONE, Cancelled if stopped else Crashed
            ended: State[Any] = (Cancelled if cancelling else kind)(message=message)
            client.set_flow_run_state(flow_run.id, ended, force=True)
            marked.append(flow_run.name)
    return marked


def is_gone(flow_run: FlowRun) -> bool:
    """Whether the process of an unfinished flow run has ended, as far as this machine can know."""
    process, folder = flow_run.labels.get(PROCESS), flow_run.labels.get(FOLDER)
    if process is None or folder is None:
        return _never_started(flow_run)
    if flow_run.state is not None and flow_run.state.is_pending():
        # A retry: the labels are of the process before.
        return _never_started(flow_run)
    try:
        owner = Owner.of_text(str(process))
    except ValueError:
        return False
    try:
        return has_ended(owner, Path(str(folder)))
    except ObjectStoreError:
        # Without the run's store, nothing is known.
        return False


def _never_started(flow_run: FlowRun) -> bool:
    """Whether a flow run was handed to a process that has said nothing for too long."""
    state = flow_run.state
    if (
        TAG not in flow_run.tags
        or state is None
        or not (state.is_pending() or state.is_cancelling())
    ):
        return False
    return state.timestamp < datetime.now(UTC) - timedelta(seconds=STALE_SECONDS)


def _unfinished(client: SyncPrefectClient) -> Iterator[FlowRun]:
    """Yields the flow runs of this project that the server takes for unfinished."""
    me: UUID | None = None if (mine := current()) is None else mine.id
    for start in range(0, 1_000_000, _PAGE):
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(FLOWS))),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
            ),
            limit=_PAGE,
            offset=start,
        )
        yield from (flow_run for flow_run in found if flow_run.id != me)
        if len(found) < _PAGE:
            return
