"""Joins the clips of several data sets, for a student that learns from all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from stages.student.data.clips import Clip


class Draws(Protocol):
    """A sequence of draws of clips. An epoch has ``len`` draws and holds every sample once."""

    @property
    def samples(self) -> int:
        """Number of (video, expression) pairs with supervision."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> list[Clip]:
        """Returns the clips of a draw, counted from 0 through all epochs."""
        ...


class JoinedDraws:
    """The draws of several data sets, mixed at random. An epoch holds all their samples once.

    Args:
        parts: the data sets' draws.
        seed: random seed.
    """

    def __init__(self, parts: Sequence[Draws], seed: int) -> None:
        self._parts, self._seed = list(parts), seed
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def samples(self) -> int:
        """Number of samples of all parts."""
        return sum(part.samples for part in self._parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, number: int) -> list[Clip]:
        """Returns the clips of a draw. It depends only on the seed and the number."""
        epoch, place = divmod(number, len(self))
        order = np.random.default_rng((self._seed, 4, epoch)).permutation(len(self))
        drawn = int(order[place])
        row = int(np.searchsorted(self._starts, drawn, side="right")) - 1
        part = self._parts[row]
        return part[epoch * len(part) + drawn - int(self._starts[row])]
