"""The Prefect flow of a training that is not a stage of a run: one flow run, one task run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

if TYPE_CHECKING:
    from flows.training.train import Trained


def training_flow(title: str, work: Callable[[], Trained]) -> None:
    """Does the work as a task run of a flow run of that name.

    Raises:
        Exception: what the work raises.
    """

    @task(name="train", persist_result=False, cache_policy=NO_CACHE)
    def train() -> None:
        work()

    @flow(name="train", flow_run_name=title, persist_result=False, log_prints=False)
    def trained() -> None:
        train()

    trained()
