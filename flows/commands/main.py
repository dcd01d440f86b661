"""The command line: ``pseudolabels run|status|report|evaluate|export|import-masks|dataset|…``.

Exit codes: 0 all is well; 1 the work failed or found something wrong, or a file, folder or split
that it was given is missing or broken, before it began or later; 2 the command or configuration is
wrong; 130 it was interrupted, 143 it was asked to end. Every error of ours is one message without a
traceback.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from flows.commands import dataset as dataset_commands
from flows.commands import evaluate as evaluate_commands
from flows.commands import exchange as exchange_commands
from flows.commands import integrity as integrity_commands
from flows.commands import student as student_commands
from flows.commands.dry_run import explain
from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    OutOption,
    Overrides,
    RootOption,
    RunArguments,
    SplitOption,
    resolve,
    resolve_run,
)
from flows.commands.terminal import show_results
from flows.console import Output, make_printable, say
from flows.orchestration import server, signals
from flows.planning.stage_selection import scope_of, videos_asked_for
from pipeline.config import MAX_SEED, load_config
from pipeline.errors import ConfigError, PseudoLabelError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pseudo-masks for referring video segmentation, from videos and sentences alone.",
)
server_app = typer.Typer(no_args_is_help=True, help="The local Prefect server and its UI.")
app.add_typer(server_app, name="server")
app.add_typer(evaluate_commands.app, name="evaluate")
app.add_typer(dataset_commands.app, name="dataset")

console = Output()
errors = Output(stderr=True)


@app.command()
def run(
    overrides: Overrides = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="Random seed.")] = None,
    retry_skipped: Annotated[
        bool, typer.Option(help="Try videos again that were skipped.")
    ] = False,
    forget_missing: Annotated[
        bool, typer.Option(help="Remove what was made of videos that the data set has no more.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and why; change nothing.")
    ] = False,
    from_stage: Annotated[
        str | None, typer.Option(help="Do this stage and what follows again, even if done.")
    ] = None,
    to_stage: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    only_videos: Annotated[
        list[str] | None,
        typer.Option(help="A video's id, or @FILE with an id a line; may be given many times."),
    ] = None,
    runner: Annotated[
        str | None, typer.Option(help="local, or ray: the workers of a Ray cluster.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Of a Ray cluster started here.")] = None,
) -> None:
    """Makes pseudo-masks, trains the student, and writes figures and a report. Does only what is
    not done yet.
    """
    words = list(overrides or ())
    if only_videos:
        words.append(f"dataset.only_videos={json.dumps(videos_asked_for(only_videos))}")
    resolved = resolve(config, dataset, root, split, out, words, device, seed, runner, workers)
    scope = scope_of(resolved, from_stage, to_stage)
    if dry_run:
        explain(resolved, console, scope, retry_skipped)
        return
    started = Event()

    def say_interrupted() -> None:
        command = resume_command(started.is_set())
        say(errors, f"\nInterrupted. What is done stays done; go on with:\n  {command}")

    try:
        with signals.stoppable(say_interrupted):
            from flows.commands.run import run_all

            run_all(
                resolved,
                console,
                retry_skipped,
                scope=scope,
                forget_missing=forget_missing,
                committed=started.set,
            )
    except KeyboardInterrupt as error:
        say_interrupted()
        raise typer.Exit(signals.exit_code(error)) from None
    except PseudoLabelError as error:
        _print_error(error)
        # What kept the work from beginning would keep the same command from it too.
        if started.is_set() and not isinstance(error, ConfigError):
            say(errors, f"What is done stays done; go on with:\n  {resume_command()}")
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None


@app.command()
def status(
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Says what of a run is done, at work, failed, skipped and left. Changes nothing."""
    from flows.commands.status import show_status
    from flows.context import RunContext

    resolved = resolve_run(arguments, config, dataset, root, split, out)
    show_status(console, RunContext(resolved).make_plan(remember=False), resolved.run_folder)


@app.command()
def report(
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Writes the report anew from what a run has."""
    from flows.commands.run import write_report_again

    resolved = resolve_run(arguments, config, dataset, root, split, out)
    write_report_again(resolved, console)
    show_results(console, resolved.run_folder)


@app.command("make-shapes")
def make_shapes(
    out: Annotated[Path, typer.Option(help="Folder to write, in the Ref-YouTube-VOS layout.")],
    videos: Annotated[int, typer.Option(min=1, help="Videos to train on.")] = 24,
    valid: Annotated[
        int | None, typer.Option(min=1, help="Videos to validate on; a third as many by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the videos.")] = 2026,
) -> None:
    """Renders the shapes data set."""
    from flows.dataset import render_shapes

    render_shapes(out, videos, valid or max(1, videos // 3), seed, console.print)


@app.command("demo-models")
def demo_models(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the weights; the project's own by default.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="ground, segment or captioner.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of weights and videos.")] = 0,
) -> None:
    """Trains the demo models on shapes and prints their figures on unseen videos."""
    from flows.commands.demo_models import train_demo_models

    train_demo_models(out, only or (), device, seed, console)


@app.command()
def doctor(
    config: ConfigOption = None,
    overrides: Overrides = None,
) -> None:
    """Says what this machine has: versions, devices, memory, weights, server."""
    from flows.commands.doctor import examine, show

    findings = examine(load_config(config, overrides or ()))
    show(findings, console)
    if not all(finding.well for finding in findings if finding.needed):
        raise typer.Exit(1)


@server_app.command("start")
def server_start() -> None:
    """Starts the local Prefect server, or says where it runs."""
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        say(console, f"PREFECT_API_URL is set: {configured}")
        return
    with console.status("Starting the Prefect server"):
        url = server.ensure()
    say(console, f"Prefect UI: {url.removesuffix('/api')}")


@server_app.command("stop")
def server_stop() -> None:
    """Ends the local Prefect server."""
    ended = server.stop()
    say(console, "No local server runs." if ended is None else f"Ended the server at {ended.ui}.")


@app.command()
def ui() -> None:
    """Starts the local Prefect server if need be and says where its UI is."""
    server_start()


exchange_commands.register(app)
integrity_commands.register(app)
student_commands.register(app)


def resume_command(started: bool = True) -> str:
    """The command as it was typed.

    Args:
        started: what was to be done again is undone by now; asking for it once more would start
            over, so ``--from-stage`` is left out.
    """
    words = sys.argv[1:]
    if started:
        words = [word for word in words if not word.startswith("--from-stage=")]
        while "--from-stage" in words:
            place = words.index("--from-stage")
            words = words[:place] + words[place + 2 :]
    name = Path(sys.argv[0]).name
    started_as = ["python", "-m", "flows"] if name == "__main__.py" else [name]
    return shlex.join([*started_as, *words])


def main() -> None:
    """Runs the command line; errors of ours end it with a message."""
    make_printable()
    sys.argv[1:] = map(_with_home, sys.argv[1:])
    server.quiet(os.environ)
    # A log line that Prefect's server does not take is no news for the terminal.
    logging.raiseExceptions = False
    code = _exit_code()
    if "flows.orchestration.labelling_flow" in sys.modules:
        # At the exit Prefect sends what it has not sent yet, for minutes where no server answers.
        answers = server.is_healthy(os.environ.get("PREFECT_API_URL", ""))
        signals.end_within(20.0 if answers else 1.0, code, after_main=True)
    sys.exit(code)


def _with_home(word: str) -> str:
    """A word of the command with the home folder in ``--option=~/path``, which a shell leaves."""
    option, separator, value = word.partition("=")
    if not (option.startswith("--") and value.startswith("~")):
        return word
    # Where no home folder is known the word stays, and what reads it says so.
    return f"{option}{separator}{os.path.expanduser(value)}"  # noqa: PTH111


def _exit_code() -> int:
    try:
        app()
    except ConfigError as error:
        _print_error(error)
        return 2
    except (PseudoLabelError, OSError) as error:
        # Of the system's errors the message names the file and what is wrong with it.
        _print_error(error)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _print_error(error: Exception) -> None:
    say(errors, error, "bold red", label="error:")


if __name__ == "__main__":
    main()
