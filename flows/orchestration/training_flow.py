"""The Prefect flow ``train``: a training that is not a stage of a run, as one task run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Completed
from rich.console import Console

from flows.context import RunContext
from flows.orchestration import signals
from flows.orchestration.parameters import Student
from flows.orchestration.prefect_tasks import UNCACHED, failed_state
from flows.orchestration.served import done_or_failed, observe, say, told_how_to_go_on
from flows.orchestration.servers.connection import Connection
from flows.orchestration.watching import flow_runs
from flows.orchestration.watching.run_log import LogFile
from flows.planning.run_config import config_of_run
from pipeline.config import given

if TYPE_CHECKING:
    from flows.training.train import Trained

HOW_TO_GO_ON = (
    "Interrupted. The training of {folder} continues from its last checkpoint: retry this flow run,"
    " or start it again with the same parameters."
)


@flow(name="train", flow_run_name="{student} {name} of {run}", persist_result=False)
def train(
    run: str,
    student: Student = "grounded",
    name: str = "",
    masks: str = "",
    start: str = "",
    device: str = "auto",
    overrides: tuple[str, ...] = (),
    config: str = "",
) -> State[Any]:
    """Trains a student on the masks of a run, or continues an interrupted training.

    Args:
        run: Folder of the run, such as `runs/shapes-train`.
        student: Model of the student.
        name: Name of its folder in `students` of the run. By default the model's name.
        masks: Mask store to train on, in place of the run's masks.
        start: Folder of a student whose weights the training starts from.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        overrides: Settings, such as `student.steps=2000`.
        config: TOML file with settings, in place of the run's own.

    Returns:
        *Completed*, or *Failed* with the reason.
    """
    work = _given.get()
    if work is not None:
        return work()
    said = {"student.model": student, "device": device, "student.masks": masks}
    said |= {"student.start": start}
    words = [given(key, value) for key, value in said.items() if value]
    return done_or_failed(
        lambda: _train_served(Path(run), name, [*words, *overrides], config), "The training"
    )


_given: ContextVar[Callable[[], State[Any]] | None] = ContextVar("_given", default=None)
"""The training that this process has prepared, for the flow that this context calls."""


def training_flow(
    context: RunContext, folder: Path, connection: Connection, work: Callable[[], Trained]
) -> None:
    """Does a training as a task run: of the current flow run, or of a new one.

    Args:
        folder: of the student.

    Raises:
        Exception: what the work raises.
    """
    if flow_runs.current() is not None:
        _as_task(work).result()
        return

    def observed() -> State[Any]:
        signals.install_handlers()
        tags = flow_runs.tags_of(context.config, context.preset)
        observe(connection, folder, [*tags, f"student:{context.config.student.model}"])
        state = _as_task(work)
        return _ended(folder) if state.is_completed() else state

    token = _given.set(observed)
    try:
        name = f"{folder.name} of {context.paths.folder}".replace("{", "{{").replace("}", "}}")
        train.with_options(flow_run_name=name)(
            run=str(context.paths.folder.absolute()),
            student=context.config.student.model,
            name=folder.name,
            config=str((folder / "config.toml").absolute()),
        )
    except TerminationSignal as error:
        raise signals.Stopped(error.signal) from error
    finally:
        _given.reset(token)


def _train_served(run: Path, name: str, words: list[str], config: str) -> State[Any]:
    """Trains inside the current flow run."""
    from flows.orchestration.training import student_folder, train_run

    resolved = config_of_run(run, words, Path(config) if config else None)
    folder = student_folder(resolved, name or None)
    connection = Connection.of_settings(say)
    tags = [*flow_runs.tags_of(resolved), f"student:{resolved.student.model}"]
    with told_how_to_go_on(HOW_TO_GO_ON.format(folder=folder)):
        observe(connection, folder, tags)
        train_run(
            resolved, name or None, Console(file=cast(IO[str], LogFile()), width=200), measure=True
        )
        return _ended(folder)


def _ended(folder: Path) -> State[Any]:
    return Completed(message=f"Student: {folder}")


def _as_task(work: Callable[[], Trained]) -> State[Any]:
    @task(name="train", **UNCACHED)
    def trained() -> State[Any] | None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the state carries it
            return failed_state(error, "The training")
        return None

    state: State[Any] = trained(return_state=True)
    return state
