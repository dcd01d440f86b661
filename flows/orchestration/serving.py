"""Serves the flows as Prefect deployments, from this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.orchestration.limits import gpu_limit
from flows.orchestration.watching import flow_runs

SERVED = {
    "label-videos": ("flows.orchestration.labelling_flow", "label"),
    "train-student": ("flows.orchestration.training_flow", "train"),
    "resume-run": ("flows.orchestration.resume_flow", "resume"),
}
"""Name of a deployment -> the module of its flow, and the flow."""

_OF_THE_UI = ("schedules", "paused", "concurrency_limit", "concurrency_options")
"""Fields of a deployment that are set in the UI. Values that are sent would replace them."""

HEARTBEAT_SECONDS = 30

QUERY_SECONDS = 3
"""Time between two looks for flow runs to start."""


def deployments() -> list[RunnerDeployment]:
    """Returns the deployments of the flows. A flow run imports the flow from its module."""
    return [
        _deployment(name, getattr(import_module(module), flow), f"{module}.{flow}")
        for name, (module, flow) in SERVED.items()
    ]


def serve_flows(limit: int, say: Callable[[str], None]) -> None:
    """Does the flow runs that the UI starts, each in a process of its own, until interrupted.

    Args:
        limit: largest number of flow runs at a time; others wait.
        say: prints a line.
    """
    for name in flow_runs.mark_crashed():
        say(f"Crashed: {name}")
    limit_gpus(say)
    # Processes of flow runs import this project from where this process did.
    root = str(Path(__file__).resolve().parents[2])
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *(place for place in known if place != root)])
    try:
        serve(
            *deployments(),
            # A schedule made in the UI goes on when this command is started again.
            pause_on_shutdown=False,
            print_starting_message=False,
            limit=limit,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            query_seconds=QUERY_SECONDS,
        )
    finally:
        for name in flow_runs.mark_crashed(stopped=True):
            say(f"Interrupted: {name}")


def limit_gpus(say: Callable[[str], None]) -> None:
    """Makes a global concurrency limit of this machine's GPUs, if it has some and no limit yet."""
    count = _gpus()
    if not count:
        return
    with get_client(sync_client=True) as client:
        known = {item.name for item in client.read_global_concurrency_limits(limit=200)}
        if gpu_limit() not in known:
            client.upsert_global_concurrency_limit_by_name(gpu_limit(), count)
            say(f"Limit: {gpu_limit()}, {count}")


def _gpus() -> int:
    """Returns the number of GPUs. Asks another process, because PyTorch would stay in this one."""
    code = "import torch; print(torch.cuda.device_count())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 0


def _deployment(name: str, flow: Flow[..., Any], entrypoint: str) -> RunnerDeployment:
    made: Any = flow.to_deployment(
        name=name,
        tags=[flow_runs.TAG],
        description=flow.description,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment), "outside of an event loop"
    made.entrypoint = entrypoint
    made.model_fields_set.difference_update(_OF_THE_UI)
    return made
