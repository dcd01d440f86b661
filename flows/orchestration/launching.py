"""Executes the plan of an open run inside a flow run: in this process, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flows.context import RunContext
from flows.labelling.executor import Summary, execute
from flows.orchestration.prefect_tasks import PrefectTasks
from flows.orchestration.servers.connection import Connection


def execute_observed(context: RunContext, connection: Connection) -> Summary:
    """Runs the pending jobs of a plan as task runs of the current flow run.

    Raises:
        RunFailedError: as :func:`flows.labelling.executor.execute`.
    """
    with _launcher(context, connection) as launcher:
        return execute(context, launcher)


@contextmanager
def _launcher(context: RunContext, connection: Connection) -> Iterator[PrefectTasks]:
    """What does the jobs: this process, or a Ray cluster for as long as the block lasts."""
    if context.config.runner.kind == "local":
        yield PrefectTasks(context, connection)
        return
    from flows.orchestration.ray.ray_cluster import check_reach, ray_cluster

    with ray_cluster(context.config):
        check_reach(context.config, connection)
        # Ray may be imported only now.
        from prefect_ray import RayTaskRunner

        from flows.orchestration.ray.ray_tasks import RayTasks

        with RayTaskRunner() as runner:
            yield RayTasks(context, connection, runner)
