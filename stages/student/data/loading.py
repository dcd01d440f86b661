"""Gives each process its clips of each step.

A step is ``draws`` consecutive numbers of draws. Each of several processes takes its share, in
order, so that together they see what one process would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader

from pipeline.errors import ConfigError
from stages.student.data.clips import Clip
from stages.student.data.joined import Draws
from stages.student.training.world import ALONE, World


def numbers_of_step(step: int, draws: int, world: World = ALONE) -> range:
    """Returns this process's draws of one step.

    Args:
        draws: number of draws in a step, over all processes.

    Raises:
        ConfigError: the draws do not divide among the processes.
    """
    if draws % world.size:
        raise ConfigError(
            f"student.clips_per_step is {draws} and there are {world.size} processes; expected a"
            f" multiple; set student.clips_per_step to {-(-draws // world.size) * world.size}"
        )
    share = draws // world.size
    start = step * draws + world.rank * share
    return range(start, start + share)


def clips_of_steps(
    clips: Draws, steps: range, draws: int, *, world: World = ALONE, workers: int = 0
) -> Iterator[list[Clip]]:
    """Yields this process's clips of each step.

    Args:
        steps: numbers of the steps.
        draws: number of draws in a step, over all processes.
        workers: processes that read ahead, two steps each; 0 reads in this process.

    Raises:
        ConfigError: the draws do not divide among the processes.
    """
    numbers = [numbers_of_step(step, draws, world) for step in steps]
    loader: DataLoader[list[Clip]] = DataLoader(
        clips,  # type: ignore[arg-type]
        batch_sampler=numbers,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_together,
        # A fork would inherit the threads of torch and zarr in whatever state they are.
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader


def _together(draws: Sequence[list[Clip]]) -> list[Clip]:
    return [clip for draw in draws for clip in draw]
