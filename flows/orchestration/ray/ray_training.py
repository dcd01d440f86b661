"""Trains a student on the workers of a Ray cluster, through Ray Train.

Every worker must see the run's folder and the data set under the same path.
"""

from __future__ import annotations

import contextvars
import os
import shutil
import threading
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flows.console import say
from flows.context import RunContext
from flows.orchestration.ray.ray_cluster import (
    cluster_gives_gpus,
    last_line,
    ray_cluster,
    with_absolute_paths,
    worker_count,
)
from flows.progress import Reporter, Silent
from flows.training.torchrun import PATIENCE
from pipeline.config import RunConfig, config_from, dump_config
from pipeline.errors import PseudoLabelError

if TYPE_CHECKING:
    from flows.training.train import Trained
    from stages.student.training.fit import History

Tell = Callable[..., None]
"""Sends what a worker tells to the process that waits for it: what is told, and its arguments."""


def train_on_ray(config: RunConfig, folder: Path, console: Console) -> None:
    """Trains as :func:`flows.training.train.train_student` does, in ``runner.workers`` processes.

    Args:
        folder: of the student's files; the first worker writes them.

    Raises:
        PseudoLabelError: the training failed; what Ray says is in the message.
    """
    say(console, f"Training with Ray, {worker_count(config)} workers")
    with ray_cluster(config):
        _fit(config, folder, worker_count(config), None)


def train_in_run(context: RunContext, folder: Path, publish: Callable[[History], None]) -> Trained:
    """Trains the student of a run on the cluster that this process has joined.

    Takes as many workers as the cluster has for the run, and as divide the clips of a step.

    Args:
        context: of the run; its progress shows that of the first worker.
        folder: of the student's files.
        publish: called with the history at every checkpoint.

    Raises:
        PseudoLabelError: as :func:`train_on_ray`.
    """
    from ray.util.queue import Queue

    from flows.training.predict import load_student
    from flows.training.train import Trained

    config = context.config
    clips, most = config.student.clips_per_step, worker_count(config)
    workers = dividing(clips, most)
    less = f" of {most}, because student.clips_per_step is {clips}" if workers < most else ""
    context.progress.say(f"Training the student with Ray, workers: {workers}{less}")
    queue = Queue(actor_options={"num_cpus": 0})
    heard = Heard(context.progress, publish)
    # The thread runs in a copy of this context, because the current flow run is in it.
    here = contextvars.copy_context()
    listener = threading.Thread(target=here.run, args=(heard.listen, queue), daemon=True)
    listener.start()
    try:
        _fit(config, folder, workers, queue)
    finally:
        queue.put(("ended",))
        listener.join()
        queue.shutdown()
    shutil.rmtree(folder / "ray", ignore_errors=True)
    assert heard.history is not None, "the first worker tells it at the end"
    student = load_student(folder, config, context.device)
    return Trained(student, heard.history, heard.samples)


def dividing(clips: int, workers: int) -> int:
    """Returns the largest number of workers, up to a limit, that divides the clips of a step."""
    return max(count for count in range(1, workers + 1) if clips % count == 0)


def _fit(config: RunConfig, folder: Path, workers: int, queue: Any) -> None:
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    from ray.train import RunConfig as RayRun
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    try:
        trainer = TorchTrainer(
            _train,
            train_loop_config={
                "config": dump_config(with_absolute_paths(config)),
                "folder": str(folder.resolve()),
                "queue": queue,
            },
            torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=cluster_gives_gpus(config)),
            run_config=RayRun(name="training", storage_path=str((folder / "ray").resolve())),
        )
        trainer.fit()
    except Exception as error:
        raise PseudoLabelError(
            f"the training on Ray failed: {last_line(error)}; it continues from its last"
            " checkpoint when the same command is given again"
        ) from error


def _train(settings: dict[str, Any]) -> None:
    """Does the work of one worker, which Ray Train has connected with the others."""
    from ray import train
    from ray.train.torch import get_device

    from flows.training.train import train_student
    from stages.student.training.world import World

    context = RunContext(
        config_from(tomllib.loads(settings["config"]), "the training's configuration")
    )
    ray_context = train.get_context()
    world = World(ray_context.get_world_rank(), ray_context.get_world_size())
    folder, device, queue = Path(settings["folder"]), get_device(), settings["queue"]
    if queue is None or not world.first:
        train_student(context, folder, world=world, device=device)
        return

    def tell(what: str, *values: Any) -> None:
        queue.put((what, *values))

    context.progress = Sent(tell)
    trained = train_student(
        context,
        folder,
        world=world,
        device=device,
        # The best weights are large, and no curve shows them.
        publish=lambda history: tell("history", replace(history, best=None)),
    )
    tell("samples", trained.samples)


class Sent(Silent):
    """A reporter that sends what it is told."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._tell("begin", stage, total, unit)

    def done_before(self, amount: float) -> None:
        self._tell("done_before", amount)

    def advance(self, amount: float, frames: int = 0) -> None:
        self._tell("advance", amount, frames)

    def end(self, note: str = "") -> None:
        self._tell("end", note)

    def say(self, text: str, style: str = "") -> None:
        self._tell("say", text, style)


class Heard:
    """What the first worker has told so far.

    Args:
        progress: shows the worker's progress.
        publish: called with the history at every checkpoint.

    Attributes:
        history: of the training, without weights; None before the first checkpoint.
        samples: that taught the student.
    """

    def __init__(self, progress: Reporter, publish: Callable[[History], None]) -> None:
        self._progress, self._publish = progress, publish
        self.history: History | None = None
        self.samples = 0

    def listen(self, queue: Any) -> None:
        """Does what is told, until the training has ended."""
        while True:
            what, *values = queue.get()
            if what == "ended":
                return
            self.hear(what, values)

    def hear(self, what: str, values: list[Any]) -> None:
        """Does one thing that was told."""
        if what == "history":
            [self.history] = values
            self._publish(values[0])
        elif what == "samples":
            [self.samples] = values
        else:
            getattr(self._progress, what)(*values)
