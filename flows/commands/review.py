"""``pseudolabels review`` and ``explain``: look at the masks of a run, and decide about them."""

from __future__ import annotations

import getpass
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import example, resolve_run
from flows.console import Output, add_row, grid, say
from flows.planning.run_paths import RunPaths
from pipeline.conflicts import conflicts_of
from pipeline.decisions import Decision
from pipeline.errors import ConfigError
from storage.decisions import (
    append_decisions,
    read_decisions,
    share_decisions,
    write_decision_table,
)

if TYPE_CHECKING:
    from flows.context import RunContext
    from flows.review.session import Session

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder or address of a run.")]
RootOption = Annotated[
    Path | None, typer.Option(help="Folder of the data set, if it was moved since the run.")
]

console = Output()

SHOWN_CONFLICTS = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(epilog=example("review runs/shapes-train"))(review)
    app.command(epilog=example("explain runs/shapes-train train00003 0"))(explain)
    app.command(epilog=example("guarantee runs/shapes-train --labels truth"))(guarantee)


def review(
    folder: RunFolder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    who: Annotated[
        str | None, typer.Option(help="Name that goes with the decisions. Default: your login.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Print that many samples to decide next, and end.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the decisions to this CSV file, and end.")
    ] = None,
    take: Annotated[
        list[Path] | None,
        typer.Option(
            "--import",
            help="Take over decisions, and end: a CSV file, another review.jsonl, masks that were"
            " corrected in CVAT or Label Studio, or a folder that FiftyOne exported. Can be"
            " repeated.",
        ),
    ] = None,
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="Print where reviewers disagree, and end.")
    ] = False,
    root: RootOption = None,
) -> None:
    """Serve a page on which people accept, reject and correct the masks of a run.

    The samples come worst first. The page is for this machine alone. Decisions go to review.jsonl
    in the folder of the run; the next `pseudolabels run` does what they say, in seconds.
    """
    from flows.context import RunContext

    config = resolve_run([str(folder)], None, None, root, None, None)
    context = RunContext(config)
    path = context.paths.decisions
    if take or export or conflicts:
        if take:
            _import(context, take, _name(who))
        if conflicts:
            _show_conflicts(path)
        if export:
            count = write_decision_table(export, _decisions(path))
            say(console, f"{export}: {count} decisions")
        return
    from flows.review.session import Session

    session = Session(context, _name(who))
    for problem in session.problems:
        say(console, problem, "yellow")
    if budget is not None:
        _show_proposals(session, budget)
        return
    from flows.review.server import serve

    say(console, f"{len(session.queue)} samples, worst first. Ctrl-C ends the review.")
    serve(session, port, lambda address: say(console, f"Open {address}"))
    say(console, f"Decisions: {path}. `pseudolabels run` does what they say.")


def explain(
    folder: RunFolder,
    video: Annotated[str, typer.Argument(help="Id of a video.")],
    expression: Annotated[str, typer.Argument(help="Id of an expression of it.")],
    frame: Annotated[
        int | None,
        typer.Argument(help="Position of a frame, from 0. Default: that of the lowest weight."),
    ] = None,
    root: RootOption = None,
) -> None:
    """Print why a mask is what it is: votes, objections, and the threshold that decided."""
    from flows.context import RunContext
    from flows.review.explain import explain_frame, shard_of

    context = RunContext(resolve_run([str(folder)], None, None, root, None, None))
    found = explain_frame(context, shard_of(context, video), (video, expression), frame)
    for line in found.lines():
        say(console, line)


def guarantee(
    folder: RunFolder,
    labels: Annotated[
        str,
        typer.Option(
            help="truth: ground truth of the data set. decisions: what people accepted and"
            " rejected. Or the folder of another run whose data set has ground truth."
        ),
    ] = "truth",
    keep: Annotated[float, typer.Option(help="J that masks must have to be kept.")] = 0.8,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="Share of the kept masks that have it.")
    ] = 0.9,
    root: RootOption = None,
) -> None:
    """Predict J of every mask, with a lower bound that holds, and write guarantee.parquet.

    Labelled videos and the others must be alike: the promise is about videos drawn at random.
    """
    from flows.review.guarantee import make_guarantee

    config = resolve_run([str(folder)], None, None, root, None, None)
    with console.status("Measuring labelled masks"):
        made = make_guarantee(config, labels, keep, confidence)
    say(
        console,
        f"{made.labels} labelled masks in {made.guarantee.videos} videos."
        f" Keep what has J >= {keep:g} with {confidence:.0%} confidence: {made.kept:.1%} of"
        f" {made.samples} masks",
    )
    if made.held_out is not None:
        tested = made.held_out
        wrong = "none is kept" if math.isnan(tested.wrong) else f"{tested.wrong:.1%} are below"
        say(console, f"Held-out videos: {tested.kept:.1%} are kept; of these {wrong}")
    for warning in made.warnings:
        say(console, warning, "yellow")
    path = RunPaths(config.run_folder).guarantee
    say(console, f"{path}; `pseudolabels run` puts it into quality.parquet and the report")


def _import(context: RunContext, files: list[Path], who: str) -> None:
    from flows.review.imported import read_any

    path = context.paths.decisions
    before = set(_decisions(path))
    for file in files:
        log = read_any(context, file, who)
        for problem in log.problems:
            say(console, problem, "yellow")
        new = [item for item in dict.fromkeys(log.decisions) if item not in before]
        append_decisions(path, new)
        share_decisions(path)
        before.update(new)
        say(
            console,
            f"{file}: {len(new)} decisions taken over, {len(log.decisions) - len(new)} known",
        )
    _show_conflicts(path)


def _decisions(path: Path) -> list[Decision]:
    log = read_decisions(path)
    for problem in log.problems:
        say(console, problem, "yellow")
    return log.decisions


def _show_conflicts(path: Path) -> None:
    found = conflicts_of(read_decisions(path).decisions)
    for item in found[:SHOWN_CONFLICTS]:
        said = "; ".join(f"{who}: {words}" for who, words in item.verdicts.items())
        say(
            console,
            f"{item.sample[0]} {item.sample[1]}: {said}. What holds: {item.holds}",
            "yellow",
        )
    more = f", the first {SHOWN_CONFLICTS} shown" * (len(found) > SHOWN_CONFLICTS)
    say(console, f"{len(found)} samples on which reviewers disagree{more}")


def _show_proposals(session: Session, budget: int) -> None:
    table = grid(
        ("video", "left"),
        ("expression", "left"),
        ("sentence", "left"),
        ("kind", "left"),
        ("quality", "right"),
        ("gain", "right"),
        title="To decide next",
    )
    for row in session.queue.proposals(budget):
        figures = f"{row.quality:.2f}", f"{row.gain:.1f}"
        add_row(table, row.video, row.expression, row.text, row.kind, *figures)
    console.print(table)


def _name(asked: str | None) -> str:
    """Returns the reviewer's name. Raises ConfigError if it cannot be one."""
    try:
        name = (asked if asked is not None else getpass.getuser()).strip()
    except (KeyError, OSError):
        name = ""
    if not 0 < len(name) <= 100:
        raise ConfigError(
            f"--who {name[:40]!r}: {len(name)} characters; expected a name of 1 to 100"
        )
    return name
