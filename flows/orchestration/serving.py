"""Serves the flows as Prefect deployments, from this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from prefect import Flow, serve
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.orchestration import flow_runs
from flows.orchestration.limits import gpu_limit

NAME = "pseudolabels"
"""Name of each flow's deployment."""

SERVED = {
    "label": "flows.orchestration.labelling_flow",
    "train": "flows.orchestration.training_flow",
    "resume": "flows.orchestration.resume_flow",
}
"""Flow -> the module that has it."""

HEARTBEAT_SECONDS = 30


def deployments() -> list[RunnerDeployment]:
    """Returns the deployments of the flows. A flow run imports the flow from its module."""
    return [_deployment(getattr(import_module(module), name)) for name, module in SERVED.items()]


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
    serve(
        *deployments(),
        # A schedule made in the UI goes on when this command is started again.
        pause_on_shutdown=False,
        print_starting_message=False,
        limit=limit,
        heartbeat_seconds=HEARTBEAT_SECONDS,
    )


def limit_gpus(say: Callable[[str], None]) -> None:
    """Makes a global concurrency limit of this machine's GPUs, if it has some and no limit yet."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return
    with get_client(sync_client=True) as client:
        known = {item.name for item in client.read_global_concurrency_limits(limit=200)}
        if gpu_limit() not in known:
            client.upsert_global_concurrency_limit_by_name(gpu_limit(), count)
            say(f"Limit: {gpu_limit()}, {count}")


def _deployment(flow: Flow[..., Any]) -> RunnerDeployment:
    made: Any = flow.to_deployment(
        name=NAME,
        tags=[flow_runs.TAG],
        description=flow.description,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(made, RunnerDeployment), "outside of an event loop"
    return made
