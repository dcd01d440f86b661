"""The processes that train one student together, started by torchrun or Ray Train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0. The first process writes the files.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Returns each value summed over all processes."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.all_reduce(summed)
        return [float(value) for value in summed.tolist()]

    def agreed(self, value: float, device: torch.device) -> float:
        """Returns the first process's value, in all processes."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=device)
        distributed.broadcast(told, src=0)
        return float(told.item())


ALONE = World()
