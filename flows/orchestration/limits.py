"""Holds slots of the global concurrency limits of a GPU and of an endpoint.

A limit applies if the Prefect server has one of that name: ``gpu-<host>`` for the GPUs of a
machine, ``endpoint-<address>`` for a captioner's server. Its slots are shared by all runs.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows.orchestration.servers.connection import LOST
from pipeline.config import RunConfig

logger = logging.getLogger(__name__)

GPU_STAGES = ("augment", "ground", "segment", "student")


def gpu_limit() -> str:
    """Returns the name of the limit of this machine's GPUs."""
    return f"gpu-{_plain(socket.gethostname())}"


def endpoint_limit(url: str) -> str:
    """Returns the name of the limit of a captioner's server."""
    return f"endpoint-{_plain(urlsplit(url).netloc)}"


class Limits:
    """The limits that the stages of a run fall under.

    Args:
        names: stage -> names of limits that the server has.
    """

    def __init__(self, names: Mapping[str, tuple[str, ...]]) -> None:
        self._names = names

    @classmethod
    def of(cls, config: RunConfig, stages: Collection[str]) -> Limits:
        """The limits of stages that are due. Asks the server, unless they use neither a GPU nor an
        endpoint."""
        wanted = _wanted(config, stages)
        known = {name for name in {*wanted.values()} if _exists(name)}
        return cls({stage: (name,) for stage, name in wanted.items() if name in known})

    @contextmanager
    def slot(self, stage: str) -> Iterator[None]:
        """Waits for a slot, if the stage has a limit, and holds it in the block."""
        names = self._names.get(stage)
        if not names:
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(concurrency(list(names), occupy=1))
            except LOST as error:
                logger.warning("%s: the Prefect server gives no slot (%s)", stage, error)
            yield


def _wanted(config: RunConfig, stages: Collection[str]) -> dict[str, str]:
    """Returns stage -> the limit that it falls under, if there is such a limit."""
    augment, wanted = config.augment, dict[str, str]()
    with_models = [stage for stage in GPU_STAGES if stage in stages]
    if augment.source != "model":
        with_models = [stage for stage in with_models if stage != "augment"]
    if not config.ground.uses_checkpoint:
        with_models = [stage for stage in with_models if stage != "ground"]
    if with_models and _uses_gpu(config):
        wanted = dict.fromkeys(with_models, gpu_limit())
    if "augment" in stages and augment.source == "endpoint" and augment.endpoint:
        wanted["augment"] = endpoint_limit(augment.endpoint)
    if "ground" in stages and config.ground.source == "mllm" and config.ground.mllm.endpoint:
        wanted["ground"] = endpoint_limit(config.ground.mllm.endpoint)
    return wanted


def _uses_gpu(config: RunConfig) -> bool:
    if config.device.startswith("cuda"):
        return True
    if config.device != "auto" or config.runner.kind != "local":
        return False
    import torch

    return torch.cuda.is_available()


def _exists(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(name).active
        except ObjectNotFound:
            return False


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.:-]+", "-", text)
