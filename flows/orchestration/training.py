"""Trains a student of a run: in this process, under torchrun, or on a Ray cluster."""

from __future__ import annotations

import logging
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flows.console import say
from flows.context import RunContext
from flows.integrity.leftovers import partials_of_student
from flows.labelling.preflight import check_device, check_student, has_truth
from flows.orchestration.ray.ray_cluster import check_runner
from flows.orchestration.servers.observed import prefect_server
from flows.orchestration.watching.known_runs import key_of
from flows.planning.mirrored import pushed
from flows.planning.run_config import write_run_config
from flows.planning.run_paths import RunPaths
from flows.progress import reporter
from flows.training.build import taught_by
from flows.training.curves import curves_markdown, read_scores
from flows.training.predict import load_student
from flows.training.torchrun import started_by_torchrun, world_of_torchrun
from flows.training.train import CHECKPOINT, Trained, measure_of, train_student
from flows.weights.needs import check_weights, fetch_command
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, InputError
from pipeline.store_urls import shown
from stages.common.checkpoints import weight_files, weights_of_student
from storage.files.atomic import remove_partials
from storage.run.lock import RunLock

if TYPE_CHECKING:
    from stages.student.training.fit import History

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}")


def train_run(config: RunConfig, name: str | None, console: Console, measure: bool = False) -> Path:
    """Trains a student of a run, or continues its training. Returns the student's folder.

    Args:
        config: of the run; its ``student`` section says what is trained. The run needs masks, or,
            for supervision by text alone, sentences.
        name: of the student and of its folder in ``students``; None for the name of its model.
        measure: measure J&F at the end if it was not measured during the training.

    Raises:
        ConfigError: the run has no masks or sentences yet, or the name is not valid.
        CheckpointError: the weights to start from are missing.
        PseudoLabelError: there is nothing to train on, or a checkpoint is damaged.
    """
    folder, context = student_folder(config, name), RunContext(config)
    if config.runner.kind == "ray" and not started_by_torchrun():
        # Ray's workers have no terminal, so say here which videos are left out.
        context.progress = reporter(console)
    _check_weights(context)
    taught_by(context)
    if not started_by_torchrun():
        check_device(context)
    check_student(context)
    if config.student.start is not None:
        weight_files(str(weights_of_student(config.student.start)))
    check_runner(config)
    if started_by_torchrun():
        _train_with_torchrun(context, folder, console)
        return folder
    with RunLock(folder, partial(say, console)), pushed(folder):
        remove_partials(partials_of_student(folder))
        write_run_config(folder / "config.toml", config)
        if config.runner.kind == "ray":
            from flows.orchestration.ray.ray_training import train_on_ray

            train_on_ray(config, folder, console)
        else:
            _train_observed(context, folder, console)
        _finish(context, folder, console, measure)
    return folder


def student_folder(config: RunConfig, name: str | None) -> Path:
    """Returns the folder of a student; None names it after its model.

    Raises:
        ConfigError: the name is not valid.
    """
    called = name or config.student.model
    if not _NAME.fullmatch(called):
        raise ConfigError(
            f"--name {called!r}; expected letters, digits, dots, dashes and underscores"
        )
    return RunPaths(config.run_folder).student_named(called)


def _train_with_torchrun(context: RunContext, folder: Path, console: Console) -> None:
    with world_of_torchrun(context.config.device) as (world, device):
        if not world.first:
            train_student(context, folder, world=world, device=device)
            return
        with RunLock(folder), pushed(folder), reporter(console) as progress:
            context.progress = progress
            remove_partials(partials_of_student(folder))
            write_run_config(folder / "config.toml", context.config)
            train_student(context, folder, world=world, device=device)
            _finish(context, folder, console, measure=False)


def _check_weights(context: RunContext) -> None:
    """Raises CheckpointError if weights that the training starts from are missing."""
    config = context.config
    # In a run, the student may be off.
    enabled = config.student.model_copy(update={"enabled": True})
    models = {"groprompt": {"ground", "segment"}, "grounded": {"ground"}}
    stages = {"student"} | models.get(config.student.model, set())
    command = fetch_command(context.paths.config, None, ("student.enabled=true",))
    check_weights(config.model_copy(update={"student": enabled}), command, stages=stages)


def _finish(context: RunContext, folder: Path, console: Console, measure: bool) -> None:
    """Prints what the training came to, and what to do next.

    Args:
        measure: measure the student now if it was not measured during the training.
    """
    (folder / CHECKPOINT).unlink(missing_ok=True)
    training = context.config.student.training
    say(console, f"Student: {shown(folder)}")
    scores = read_scores(folder) if training.validate_every else []
    if scores:
        steps, best = max(scores, key=lambda item: item[1])
        words = f"after {steps} steps, the best of {len(scores)} measurements; its weights are kept"
        say(console, f"J&F on {training.validate_split}: {best:.1f} %, {words}")
    elif measure:
        say(console, _measurement(context, folder, console))
    run = shlex.quote(shown(context.paths.folder))
    command = f"pseudolabels predict {run} --student {folder.name} --to predictions.zip"
    say(console, f"Next, predict a split:\n  {command}")


def _measurement(context: RunContext, folder: Path, console: Console) -> str:
    """Returns J&F of a trained student, in words, or why there is none."""
    training = context.config.student.training
    try:
        reader = context.reader(training.validate_split)
        if not has_truth(reader, training.validate_videos):
            return f"J&F was not measured: {reader.split} has no ground truth"
    except InputError as error:
        return f"J&F was not measured: {error}"
    with console.status("Measuring J&F"):
        student = load_student(folder, context.config, context.device)
        score = measure_of(context, context.device)(student)
    count = min(training.validate_videos, len(reader.video_ids()))
    return f"J&F on {count} videos of {reader.split}: {score:.1f} %"


def _train_observed(context: RunContext, folder: Path, console: Console) -> None:
    """Trains as a Prefect flow run whose artifact shows the curves. If Prefect's server is lost,
    continues without it.
    """
    title, key = f"{folder.name} of {context.paths.folder}", key_of(context.paths.folder)
    with prefect_server(console) as api, reporter(console) as progress:
        from flows.orchestration.servers.connection import LOST, Connection, is_lost
        from flows.orchestration.training_flow import training_flow

        context.progress = progress
        connection = Connection(api, progress.say)

        def publish(history: History) -> None:
            from flows.orchestration.watching import artifacts

            page = curves_markdown(history, f"Training of {title}")
            what, description = f"{folder.name}-training", f"Training of {title}"
            connection.tell(lambda: artifacts.page(page, key, what, description))

        def work() -> Trained:
            return train_student(context, folder, publish=publish)

        if not connection.present():
            work()
            return
        try:
            training_flow(context, folder, connection, work)
        except (*LOST, RuntimeError) as error:
            if not is_lost(error):
                raise
            logger.warning("the Prefect server was lost: %s", error)
            connection.give_up()
            # Continues from the last checkpoint, or ends at once if everything was done.
            work()
