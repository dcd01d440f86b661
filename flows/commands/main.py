"""The command line: ``pseudolabels run|label|status|report|evaluate|export|dataset|…``.

Exit codes: 0 success; 1 the work failed, an input is missing or broken, or a check found a problem;
2 a wrong option or setting; 130 interrupted by Ctrl-C; 143 ended by SIGTERM. Errors of this project
are printed as one message without a traceback.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import calibrate as calibrate_command
from flows.commands import dataset as dataset_commands
from flows.commands import diff as diff_commands
from flows.commands import evaluate as evaluate_commands
from flows.commands import exchange as exchange_commands
from flows.commands import integrity as integrity_commands
from flows.commands import label as label_commands
from flows.commands import paper as paper_command
from flows.commands import review as review_commands
from flows.commands import server as server_commands
from flows.commands import student as student_commands
from flows.commands import weights as weight_commands
from flows.commands.continued import do_continuable, say_error
from flows.commands.dry_run import explain, given_price
from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    DeviceOption,
    OutOption,
    Overrides,
    PresetOption,
    RootOption,
    RunArguments,
    RunnerOption,
    SplitOption,
    WorkersOption,
    config_file,
    example,
    resolve,
    resolve_run,
    unwrap_help,
)
from flows.commands.terminal import show_results
from flows.console import LogLines, Output, make_printable, say
from flows.orchestration import signals
from flows.orchestration.servers import server
from flows.outcome import RunOutcome
from flows.planning.stage_selection import scope_of, videos_asked_for
from flows.weights.needs import check_weights, fetch_command
from pipeline.config import MAX_SEED, load_config
from pipeline.errors import ConfigError, PseudoLabelError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(asked: bool) -> None:
    if asked:
        say(console, f"pseudolabels {version('pseudolabels')}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback(epilog=example("run --preset demo"))
def start(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_say_version,
            is_eager=True,
            help="Print the version, and that of Python.",
        ),
    ] = False,
) -> None:
    """Pseudo-masks for referring video segmentation, from videos and sentences alone."""


app.add_typer(evaluate_commands.app, name="evaluate")
app.add_typer(dataset_commands.app, name="dataset")
app.add_typer(weight_commands.app, name="weights")

console = Output()

DOWNLOADS = "storage.remote.data_copy"
"""Logs how far the download of a data set is."""


@app.command(epilog=example("run --dataset refytvos --root DATA --preset base"))
def run(
    overrides: Overrides = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: DeviceOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed.")] = None,
    retry_skipped: Annotated[
        bool, typer.Option("--retry-skipped", help="Try skipped videos again.")
    ] = False,
    forget_missing: Annotated[
        bool,
        typer.Option(
            "--forget-missing",
            help="Remove the results of videos that the data set no longer has.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, and why. Change nothing.")
    ] = False,
    from_stage: Annotated[
        str | None,
        typer.Option(help="Run this stage and the following ones again, even if they are done."),
    ] = None,
    to_stage: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    only_videos: Annotated[
        list[str] | None,
        typer.Option(help="Id of a video, or @FILE with one id per line. Can be repeated."),
    ] = None,
    runner: RunnerOption = None,
    workers: WorkersOption = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch missing published weights first.")
    ] = False,
    price: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--price-per-million-tokens",
            metavar="READ WRITTEN",
            help="With --dry-run: what a captioner's million tokens cost, to say the money.",
        ),
    ] = None,
) -> None:
    """Make pseudo-masks, train a student, and write metrics and a report.

    Finished work is kept, so an interrupted run continues when the command is given again. Exits
    with 1 if no frame has a mask.
    """
    words = list(overrides or ())
    if only_videos:
        words.append(f"dataset.only_videos={json.dumps(videos_asked_for(only_videos))}")
    resolved = resolve(
        config, dataset, root, split, out, words, device, seed, runner, workers, preset
    )
    scope = scope_of(resolved, from_stage, to_stage)
    command = fetch_command(config, preset, tuple(words))
    cost = given_price(price, dry_run)
    if not dry_run:
        from flows.commands.run import check_new_run

        check_new_run(resolved)
        if fetch:
            weight_commands.fetch_missing(resolved, command, agreed=True)
    check_weights(resolved, command, "--fetch")
    if dry_run:
        explain(resolved, console, scope, retry_skipped, cost)
        return
    outcomes: list[RunOutcome] = []

    def work(begun: Callable[[], None]) -> None:
        from flows.commands.run import run_all

        run_all(
            resolved,
            console,
            retry_skipped,
            scope=scope,
            forget_missing=forget_missing,
            committed=begun,
            ended=outcomes.append,
            preset=preset,
        )

    do_continuable(work)
    if any(outcome.is_nothing for outcome in outcomes):
        raise typer.Exit(1)


@app.command(epilog=example("status runs/shapes-train"))
def status(
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Print what of a run is done, running, failed, skipped and left. Changes nothing in the run.

    If its process was killed, its flow run is marked as crashed in Prefect.
    """
    from flows.commands.status import show_status
    from flows.context import RunContext

    resolved = resolve_run(arguments, config, dataset, root, split, out, needs=())
    show_status(console, RunContext(resolved).make_plan(remember=False), resolved.run_folder)


@app.command(epilog=example("report runs/shapes-train"))
def report(
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Write the report of a run again, from what the run has."""
    from flows.commands.run import write_report_again

    resolved = resolve_run(arguments, config, dataset, root, split, out, needs=())
    write_report_again(resolved, console)
    show_results(console, resolved.run_folder)


@app.command("make-shapes", epilog=example("make-shapes --out shapes --videos 24 --valid 8"))
def make_shapes(
    out: Annotated[
        Path, typer.Option(help="Folder to write to, in the layout of Ref-YouTube-VOS.")
    ],
    videos: Annotated[int, typer.Option(min=1, help="Number of training videos.")] = 24,
    valid: Annotated[
        int | None,
        typer.Option(min=1, help="Number of validation videos. Default: a third of --videos."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed.")] = 2026,
    hard: Annotated[
        bool,
        typer.Option(
            "--hard", help="Long videos: look-alikes that cross, occlusions, returns, cuts."
        ),
    ] = False,
) -> None:
    """Render the shapes data set."""
    from flows.dataset import render_shapes
    from pipeline.config import ShapesConfig

    shapes = ShapesConfig(
        train_videos=videos, valid_videos=valid or max(1, videos // 3), seed=seed, hard=hard
    )
    render_shapes(out, shapes, console.print)


@app.command("demo-models", epilog=example("demo-models --only segment --out weights"))
def demo_models(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the weights. Default: the project's own.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="ground, segment, track or captioner. Can be repeated.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed.")] = 0,
) -> None:
    """Train the demo models on shapes, and print their accuracy on unseen videos."""
    from flows.commands.demo_models import train_demo_models

    train_demo_models(out, only or (), device, seed, console)


@app.command(epilog=example("doctor --preset base"))
def doctor(
    config: ConfigOption = None,
    preset: PresetOption = None,
    overrides: Overrides = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also run each model on a picture. Loads the weights.")
    ] = False,
    image: Annotated[
        list[Path] | None, typer.Option(help="Picture for --probe; may be repeated.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Sentence about something in the pictures of --image.")
    ] = None,
) -> None:
    """Check this machine: versions, devices, memory, weights, Prefect server.

    Says which preset fits it. Exits with 1 if something that a run of the configuration needs is
    missing, or, with --probe, if a model does not do what it must.
    """
    from flows.commands.doctor import examine, show

    if (image or text) and not probe:
        raise ConfigError("--image and --text: expected --probe with them")
    words = tuple(overrides or ())
    resolved = load_config(config_file(config, preset), words)
    findings = examine(resolved, fetch_command(config, preset, words))
    if probe:
        from flows.commands.probe import pictures_for
        from flows.commands.probe import probe as probed

        with console.status("Running the models"):
            findings += probed(resolved, pictures_for(resolved, image or [], text))
    show(findings, console)
    if not all(finding.well for finding in findings if finding.needed):
        raise typer.Exit(1)


exchange_commands.register(app)
integrity_commands.register(app)
label_commands.register(app)
server_commands.register(app)
review_commands.register(app)
calibrate_command.register(app)
diff_commands.register(app)
student_commands.register(app)
paper_command.register(app)
unwrap_help(app)


def main() -> None:
    """Runs the command line. An error of this project ends it with a message."""
    make_printable()
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    server.quiet(os.environ)
    # Logs that Prefect's server does not accept are not shown on the terminal.
    logging.raiseExceptions = False
    downloads = logging.getLogger(DOWNLOADS)
    downloads.setLevel(logging.INFO)
    downloads.addHandler(LogLines(Output(stderr=True)))
    downloads.propagate = False
    code = _exit_code()
    if "flows.orchestration.labelling_flow" in sys.modules:
        # At exit, Prefect sends the rest of its logs. If no server answers, this takes minutes.
        answers = server.is_healthy(os.environ.get("PREFECT_API_URL", ""))
        signals.end_within(20.0 if answers else 1.0, code, after_main=True)
    sys.exit(code)


def _with_home(word: str) -> str:
    """Expands ``~`` in ``--option=~/path``, which the shell does not do."""
    option, separator, value = word.partition("=")
    if not (option.startswith("--") and value.startswith("~")):
        return word
    # If there is no home folder, the word stays as it is, and its reader reports it.
    return f"{option}{separator}{os.path.expanduser(value)}"  # noqa: PTH111


def _exit_code() -> int:
    try:
        app()
    except ConfigError as error:
        say_error(error)
        return 2
    except (PseudoLabelError, OSError) as error:
        # The message of an OSError names the file.
        say_error(error)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    main()
