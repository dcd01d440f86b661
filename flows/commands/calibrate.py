"""``pseudolabels calibrate``: turns a grounder's scores into probabilities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import example, resolve_run
from flows.commands.review import RootOption, RunFolder
from flows.console import Output, add_row, grid, say

if TYPE_CHECKING:
    from flows.context import RunContext
    from flows.review.calibrate import Calibrated

console = Output()


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command(epilog=example("calibrate runs/shapes-train --labels truth"))(calibrate)


def calibrate(
    folder: RunFolder,
    labels: Annotated[
        str | None,
        typer.Option(
            help="truth: ground truth of the data set. decisions: what people accepted and"
            " rejected. Or a folder: of masks <video>/<expression>/<frame>.png, or of another run"
            " of the same grounder whose data set has ground truth. Without it, the command only"
            " prints how the scores are distributed."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: calibration.json in RUN.")
    ] = None,
    root: RootOption = None,
) -> None:
    """Fit what probability of a right box a score stands for, from a few labelled frames.

    The file that it writes is for the setting fuse.calibration of runs with the same grounder: the
    thresholds of fuse are then probabilities.
    """
    from flows.context import RunContext
    from flows.review.calibrate import calibrate as make

    context = RunContext(resolve_run([str(folder)], None, None, root, None, None))
    if labels is None:
        _show_percentiles(context)
        return

    with console.status("Comparing boxes with labels"):
        made = make(context, labels, out)
    _show(made)


def _show_percentiles(context: RunContext) -> None:
    from flows.review.calibrate import percentiles, similarities

    table = grid(
        ("percent of the best boxes", "right"),
        ("score at most", "right"),
        title="Scores of the original sentences",
    )
    for percent, score in percentiles(context):
        add_row(table, percent, f"{score:.3f}")
    console.print(table)
    if measured := similarities(context):
        table = grid(
            ("similarity", "right"),
            ("positives below it", "right"),
            title="Similarity of positives, for augment.minimum_similarity",
        )
        for step, share in measured:
            add_row(table, f"{step:.2f}", f"{share:.1%}")
        console.print(table)
    say(
        console,
        "no labels, so nothing says which boxes are right, and nothing was written. Give --labels;"
        " 20 frames of 5 videos are a start",
        "yellow",
        label="Warning:",
    )


def _show(made: Calibrated) -> None:
    labels, fitted = made.labels, made.fit
    say(
        console,
        f"{len(labels)} labelled best boxes of {len(labels.videos)} videos,"
        f" {labels.right.mean():.1%} of them right. A right box scores higher than a wrong one with"
        f" a chance of {made.auroc:.3f} (AUROC)",
    )
    errors = ", ".join(f"{name} {value:.4f}" for name, value in fitted.brier.items())
    say(console, f"Method: {fitted.method}. Squared error in held-out videos: {errors}")
    say(
        console,
        f"Expected calibration error: {made.error:.3f} in held-out videos;"
        f" {made.raw_error:.3f} of the scores as they are",
    )
    table = grid(
        ("probability", "right"), ("right", "right"), ("boxes", "right"), ("", "left"),
        title="Reliability, in held-out videos",
    )  # fmt: skip
    for item in made.bins:
        bar = "#" * round(20 * item.found)
        add_row(table, f"{item.expected:.2f}", f"{item.found:.2f}", item.count, bar)
    console.print(table)
    table = grid(
        ("probability", "right"), ("best boxes kept", "right"), ("of the kept, right", "right"),
        ("of the right, kept", "right"), ("setting of this run", "left"),
        title="What thresholds keep: of the run, and of labelled boxes in held-out videos",
    )  # fmt: skip
    for row in made.kept:
        right = "" if math.isnan(row.right) else f"{row.right:.1%}"
        shares = f"{row.of_run:.1%}", right, f"{row.found:.1%}"
        add_row(table, f"{row.limit:g}", *shares, row.name)
    console.print(table)
    for warning in made.warnings:
        say(console, warning, "yellow", label="Warning:")
    say(console, f"{made.path}, and the diagram {made.path.with_suffix('.png').name}")
    say(console, f'Use it with fuse.calibration="{made.path}"')
