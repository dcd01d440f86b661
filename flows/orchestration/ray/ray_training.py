"""Trains a student on the workers of a Ray cluster, through Ray Train.

Every worker must see the run's folder and the data set under the same path.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.console import say
from flows.orchestration.ray.ray_cluster import (
    cluster_gives_gpus,
    last_line,
    ray_cluster,
    with_absolute_paths,
    worker_count,
)
from flows.training.torchrun import PATIENCE
from pipeline.config import RunConfig, config_from, dump_config
from pipeline.errors import PseudoLabelError


def train_on_ray(config: RunConfig, folder: Path, console: Console) -> None:
    """Trains as :func:`flows.training.train.train_student` does, in ``runner.workers`` processes.

    Args:
        folder: of the student's files; the first worker writes them.

    Raises:
        PseudoLabelError: the training failed; what Ray says is in the message.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    say(console, f"Training with Ray, {worker_count(config)} workers")
    with ray_cluster(config):
        from ray.train import RunConfig as RayRun
        from ray.train import ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        try:
            trainer = TorchTrainer(
                _train,
                train_loop_config={
                    "config": dump_config(with_absolute_paths(config)),
                    "folder": str(folder.resolve()),
                },
                torch_config=TorchConfig(timeout_s=int(PATIENCE.total_seconds())),
                scaling_config=ScalingConfig(
                    num_workers=worker_count(config), use_gpu=cluster_gives_gpus(config)
                ),
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

    from flows.context import RunContext
    from flows.training.train import train_student
    from stages.student.training.world import World

    context = RunContext(
        config_from(tomllib.loads(settings["config"]), "the training's configuration")
    )
    ray_context = train.get_context()
    world = World(ray_context.get_world_rank(), ray_context.get_world_size())
    train_student(context, Path(settings["folder"]), world=world, device=get_device())
