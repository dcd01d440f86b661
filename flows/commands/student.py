"""``pseudolabels train`` and ``predict``: students of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    OutOption,
    RootOption,
    RunArguments,
    SplitOption,
    given,
    resolve_run,
)
from flows.console import Output, say
from flows.orchestration import signals

console = Output()
errors = Output(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(train)
    app.command()(predict)


def train(
    arguments: RunArguments = None,
    student: Annotated[str | None, typer.Option(help="simrvos, wsrvos or groprompt.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Of its folder in students/; the model's by default.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--from", help="A mask store in place of the run's masks, see `predict`."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a student whose weights to start from.")
    ] = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    runner: Annotated[
        str | None, typer.Option(help="local, or ray: the workers of a Ray cluster.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Of a Ray cluster started here.")] = None,
) -> None:
    """Trains a student on the masks of a run, in a folder of its own, or goes on with one that was
    cut off. Several GPUs: start it with torchrun, or give --runner ray.
    """
    words = list(arguments or ())
    for key, value in (
        ("student.model", student),
        ("student.masks", masks),
        ("student.start", start),
        ("device", device),
        ("runner.kind", runner),
        ("runner.workers", workers),
    ):
        if value is not None:
            words.append(given(key, value))
    resolved = resolve_run(words, config, dataset, root, split, out)
    try:
        with signals.stoppable(_say_interrupted):
            from flows.commands.train import train_run

            train_run(resolved, name, console)
    except KeyboardInterrupt as error:
        _say_interrupted()
        raise typer.Exit(signals.exit_code(error)) from None


def predict(
    to: Annotated[
        Path,
        typer.Option(help="Folder or .zip of PNGs, or .zarr: a mask store, to train from."),
    ],
    arguments: RunArguments = None,
    student: Annotated[
        str | None, typer.Option(help="Name of one of students/; the run's own by default.")
    ] = None,
    of: Annotated[str, typer.Option(help="The split to predict.")] = "valid",
    online: Annotated[
        bool, typer.Option("--online", help="Look at no frame before its turn.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames that are looked at together.")] = 8,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability from which on a pixel counts.")
    ] = 0.5,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
) -> None:
    """Writes a student's masks of a split in the layout that the servers of Ref-YouTube-VOS and
    MeViS take. Videos that are there already, in a folder or a store, are left as they are.
    """
    from flows.training.predict import How
    from flows.training.predict import predict as write_predictions

    words = [*(arguments or ()), *([given("device", device)] if device else [])]
    resolved = resolve_run(words, config, dataset, root, split, out)
    how = How(of, frames, online, threshold)
    counts = write_predictions(resolved, student, to, how, console)
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    say(console, f"{to}: videos {told}")


def _say_interrupted() -> None:
    say(errors, "\nInterrupted. The same command goes on from the last checkpoint.")
