"""``pseudolabels train`` and ``predict``: train students of a run, and apply them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    OutOption,
    RootOption,
    RunArguments,
    RunnerOption,
    SplitOption,
    WorkersOption,
    example,
    resolve_run,
    with_settings,
)
from flows.console import Output, say
from flows.orchestration import signals
from flows.planning.presets import PAPERS, settings_of_paper
from pipeline.config import given
from pipeline.errors import ConfigError

console = Output()
errors = Output(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(epilog=example("train runs/shapes-train --student simrvos"))(train)
    app.command(epilog=example("predict runs/shapes-train --student simrvos --to masks.zip"))(
        predict
    )


def train(
    arguments: RunArguments = None,
    student: Annotated[
        str | None, typer.Option(help="grounded, simrvos, referformer, wsrvos or groprompt.")
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(help=f"Settings of a paper: {', '.join(PAPERS)}. Overrides come after them."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of its folder in students/. Default: --student.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--from", help="Mask store to train on, in place of the run's masks."),
    ] = None,
    reviewed_only: Annotated[
        bool,
        typer.Option(
            "--reviewed-only", help="Train on samples alone that people accepted or corrected."
        ),
    ] = False,
    minimum_j: Annotated[
        float | None,
        typer.Option(help="Train on samples alone of which `guarantee` promised this J or more."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a student whose weights training starts from.")
    ] = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: DeviceOption = None,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
) -> None:
    """Train a student on the masks of a run, or continue an interrupted training.

    The student gets a folder in students/. For several GPUs, start with torchrun or give
    --runner ray.
    """
    words = with_settings(arguments, settings_of_paper(paper) if paper else ())
    for key, value in (
        ("student.model", student),
        ("student.masks", masks),
        ("student.start", start),
        ("student.reviewed_only", reviewed_only or None),
        ("student.minimum_j", minimum_j),
        ("device", device),
        ("runner.kind", runner),
        ("runner.workers", workers),
    ):
        if value is not None:
            words.append(given(key, value))
    resolved = resolve_run(words, config, dataset, root, split, out, ("augment", "rank", "merge"))
    try:
        with signals.stoppable(_say_interrupted):
            from flows.orchestration.training import train_run

            train_run(resolved, name, console, measure=True)
    except KeyboardInterrupt as error:
        _say_interrupted()
        raise typer.Exit(signals.exit_code(error)) from None


def predict(
    to: Annotated[
        Path,
        typer.Option(
            help="Folder or .zip for PNGs; .zarr for a mask store; .json for COCO results of"
            " a2d and jhmdb."
        ),
    ],
    arguments: RunArguments = None,
    student: Annotated[
        str | None, typer.Option(help="Name of a student in students/. Default: the run's own.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Folder of a student of any run; --dataset and --root name the data."),
    ] = None,
    of: Annotated[str, typer.Option(help="Split to predict.")] = "valid",
    online: Annotated[bool, typer.Option("--online", help="Use no later frames.")] = False,
    frames: Annotated[int, typer.Option(min=1, help="Frames that are processed together.")] = 8,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A pixel above this probability is masked.")
    ] = 0.5,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also write 16-bit scores, into the folder Scores.")
    ] = False,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Of refdavis: merge objects by scores, in each annotation set."
        ),
    ] = False,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: DeviceOption = None,
) -> None:
    """Write a student's masks of a split, as the servers of Ref-YouTube-VOS and MeViS expect them.

    Videos that are already in the folder or the store are kept.
    """
    from flows.training.predict import How
    from flows.training.predict import predict as write_predictions
    from flows.training.prediction_place import Form

    words = [*(arguments or ()), *([given("device", device)] if device else [])]
    resolved = resolve_run(words, config, dataset, root, split, out, ("student",))
    if weights is not None and student is not None:
        raise ConfigError("both --weights and --student are given; give the one to predict with")
    if scores and merge:
        raise ConfigError("both --scores and --merge are given; predict twice for both")
    form: Form = "scores" if scores else "merged" if merge else "masks"
    how = How(of, frames, online, threshold)
    counts = write_predictions(resolved, student, to, how, console, weights, form)
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    say(console, f"{to}: videos {told}")


def _say_interrupted() -> None:
    say(errors, "\nInterrupted. The same command continues from the last checkpoint.")
