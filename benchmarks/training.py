"""What training costs beside the model: a step against the bare forward and backward on the same
clips, and how many clips a loader gives in the time that a step takes.

    .venv/bin/python benchmarks/training.py [--steps 12] [--workers 1] [--json] [section.key=value]

Works on a run whose masks are done (`make pseudolabels` makes one). On a CPU the clock of a step is
the process's CPU time, which other work hardly changes; on a GPU, and for the loader,
it is wall-clock time. Ends with 1 where a step takes more than 1.1 times the bare passes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from flows.context import RunContext
from flows.training.build import build_student, clips_of
from pipeline.config import load_config
from stages.student.contract import StepSize
from stages.student.data.loading import clips_of_steps
from stages.student.training.train import Trainer

HELD_TO = 1.1


def measure(context: RunContext, steps: int, workers: int) -> dict[str, float]:
    """Seconds a step, bare and in the loop, and of the loader."""
    config, device = context.config.student, context.device
    config = config.model_copy(update={"steps": steps})
    clips = clips_of(context)
    batches = list(clips_of_steps(clips, range(steps), config.clips_per_step))
    clock: Callable[[], float] = time.process_time if device.type == "cpu" else time.perf_counter

    def bare() -> float:
        torch.manual_seed(0)
        # A trainer freezes what does not learn; the passes are to be the same.
        student = Trainer(
            build_student(context.config, device), clips, config, device=device
        ).student
        student.train()
        seconds = 0.0
        for number, batch in enumerate(batches):
            size = StepSize(len(batch), float(sum(clip.weight.sum() for clip in batch)))
            start = clock()
            student.zero_grad()
            torch.stack(list(student(batch, size, 0).values())).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds += clock() - start if number else 0.0
        return seconds / (steps - 1)

    def loop() -> float:
        """The loop on clips that are there already: optimiser, clipping, schedule, book-keeping."""
        torch.manual_seed(0)
        trainer = Trainer(build_student(context.config, device), clips, config, device=device)
        seconds = 0.0
        for number, batch in enumerate(batches):
            start = clock()
            trainer.take(batch)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds += clock() - start if number else 0.0
        return seconds / (steps - 1)

    start = time.perf_counter()
    for _ in clips_of_steps(clips, range(steps), config.clips_per_step):
        pass
    alone = (time.perf_counter() - start) / steps
    loaded = clips_of_steps(clips, range(4 * steps), config.clips_per_step, workers=workers)
    next(loaded)  # starting the workers is not reading
    start = time.perf_counter()
    for _ in loaded:
        pass
    several = (time.perf_counter() - start) / (4 * steps - 1)
    # In turn, and the better of each: what is first pays for what both find warm.
    times = [(bare(), loop()) for _ in range(3)]
    return {
        "bare": min(time_bare for time_bare, _ in times),
        "step": min(time_loop for _, time_loop in times),
        "loader, this process": alone,
        f"loader, {workers} workers": several,
    }


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
    steps: Annotated[int, typer.Option(min=2, help="to time; the first warms up")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="of the loader")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
) -> None:
    seconds = measure(RunContext(load_config(None, overrides or ())), steps, workers)
    ratio = seconds["step"] / seconds["bare"]
    if as_json:
        typer.echo(json.dumps({"seconds a step": seconds, "step / bare": ratio}, indent=2))
    else:
        table = Table("", "ms a step")
        for name, value in seconds.items():
            table.add_row(name, f"{1000 * value:.1f}")
        Console().print(table)
        typer.echo(f"a step takes {ratio:.3f} times the bare passes (held to {HELD_TO})")
        name = f"loader, {workers} workers"
        typer.echo(f"{name}: {seconds['bare'] / seconds[name]:.1f} steps' clips in a bare step")
    if ratio > HELD_TO:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
