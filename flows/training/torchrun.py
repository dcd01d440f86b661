"""Joins the processes that torchrun started into one training; Ray Train joins its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

PATIENCE = timedelta(hours=12)
"""Processes wait for each other so long: while the first validates, the others have nothing to do,
and NCCL by itself gives up after ten minutes."""

if TYPE_CHECKING:
    import torch

    from stages.student.training.world import World


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def world_of_torchrun(device: str) -> Iterator[tuple[World, torch.device]]:
    """Gives this process's place among those that torchrun started, and its device: the GPU of its
    local rank, or the CPU. The group ends with the block.

    Args:
        device: ``auto``, ``cuda`` or ``cpu``.

    Raises:
        ConfigError: a device is named that every process would share, or there are fewer GPUs
            than processes.
    """
    import torch
    from torch import distributed

    from stages.student.training.world import World

    local = int(os.environ.get("LOCAL_RANK", "0"))
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind not in ("cuda", "cpu"):
        raise ConfigError(
            f"device {device!r} under torchrun, where every process has a device of its own; give"
            " auto, cuda or cpu"
        )
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local} of this machine and {torch.cuda.device_count()} GPUs; start as many"
            " processes as there are GPUs: torchrun --nproc-per-node"
        )
    place = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size()), place
    finally:
        distributed.destroy_process_group()
