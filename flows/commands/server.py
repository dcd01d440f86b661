"""``pseudolabels server``, ``ui``, ``serve`` and ``resume``: the Prefect UI, and runs from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.continued import do_continuable
from flows.commands.options import Overrides, example
from flows.console import Output, say
from flows.orchestration.servers import server
from flows.outcome import RunOutcome
from pipeline.store_urls import shown

console = Output()

server_app = typer.Typer(
    no_args_is_help=True,
    help="Start or stop the local Prefect server.",
    epilog=example("server stop"),
)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(server_app, name="server")
    app.command(epilog=example("ui"))(ui)
    app.command(epilog=example("serve --limit 2"))(serve)
    app.command(epilog=example("resume runs/shapes-train"))(resume)


@server_app.command("start", epilog=example("server start"))
def server_start() -> None:
    """Start the local Prefect server, or print the address of the one that runs."""
    configured = os.environ.get("PREFECT_API_URL")
    if configured:
        say(console, f"PREFECT_API_URL is set: {configured}")
        return
    with console.status("Starting the Prefect server"):
        url = server.ensure()
    say(console, f"Prefect UI: {url.removesuffix('/api')}")


@server_app.command("stop", epilog=example("server stop"))
def server_stop() -> None:
    """Stop the local Prefect server, and the server of reports."""
    from flows.orchestration.servers import reports

    reports.stop()
    ended = server.stop()
    say(
        console,
        "No local server is running." if ended is None else f"Stopped the server at {ended.ui}.",
    )


def ui() -> None:
    """Start the local Prefect server and the server of reports, and print their addresses."""
    server_start()
    _start_reports()


def serve(
    limit: Annotated[
        int, typer.Option(min=1, help="Largest number of flow runs at a time; others wait.")
    ] = 4,
) -> None:
    """Serve the flows label, train and resume, so that the Prefect UI can start and schedule them.

    Runs until it is interrupted. Flow runs whose process is gone are marked as crashed.
    """
    from flows.orchestration.servers.observed import prefect_server

    with prefect_server(console) as api:
        _start_reports()
        from flows.orchestration.serving import serve_flows

        say(console, f"Start, schedule and cancel runs at {api.removesuffix('/api')}/deployments")
        say(console, "Ctrl-C ends this command and interrupts the runs that it started.")
        serve_flows(limit, lambda line: say(console, line))


def resume(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="Folder or address of a run. Default: list them."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Go on with a run that was interrupted or failed. Without RUN, list those that can go on."""
    from flows.planning.run_config import config_of_run

    if run is None:
        _list_resumable()
        return
    config = config_of_run(run, overrides or ())
    outcomes: list[RunOutcome] = []

    def work(begun: Callable[[], None]) -> None:
        from flows.commands.run import run_all

        run_all(config, console, committed=begun, ended=outcomes.append)

    do_continuable(work)
    if any(outcome.is_nothing for outcome in outcomes):
        raise typer.Exit(1)


def _list_resumable() -> None:
    from flows.orchestration.resumable import resumable

    found = list(resumable())
    for folder, words in found:
        say(console, f"{shown(folder)}: {words}")
    if not found:
        say(console, "Every known run is done.")


def _start_reports() -> None:
    from flows.orchestration.servers import reports

    with console.status("Starting the server of reports"):
        address = reports.ensure().ui
    say(console, f"Reports: {address}")
