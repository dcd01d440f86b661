"""``pseudolabels weights``: fetch the published weights of a configuration, or list them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    Overrides,
    PresetOption,
    config_file,
    example,
)
from flows.console import Output, say
from flows.orchestration import signals
from flows.progress import reporter
from flows.weights.needs import Need, fetch_command, needs_of
from flows.weights.published import PUBLISHED
from pipeline.cache import weights_folder
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from flows.weights.fetch import Planned
    from flows.weights.state import State

app = typer.Typer(
    no_args_is_help=True,
    help="Fetch published weights, or list what is there.",
    epilog=example("weights fetch --preset base"),
)
console = Output()
errors = Output(stderr=True)

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the download.")]


@app.command("fetch", epilog=example("weights fetch --preset base"))
def fetch_weights(
    overrides: Overrides = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    yes: YesOption = False,
) -> None:
    """Download the weights that a configuration names and that are not there yet.

    Shows licences and sizes first. A download that was cut is resumed. Files are checked against
    their digests. PSEUDOLABELS_CACHE names the folder, HF_TOKEN a token for Hugging Face,
    HF_ENDPOINT and PSEUDOLABELS_MIRROR other servers.
    """
    words = tuple(overrides or ())
    resolved = load_config(config_file(config, preset), words)
    fetch_missing(resolved, fetch_command(config, preset, words), yes)


@app.command("list", epilog=example("weights list --preset base"))
def list_weights(
    overrides: Overrides = None,
    config: ConfigOption = None,
    preset: PresetOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="List all published weights, and where they come from.")
    ] = False,
) -> None:
    """List weights: whether they are there and intact, how large they are, and where.

    Without options, lists what is in the cache folder.
    """
    from flows.weights.state import cached_needs, state_of, stored_digests

    say(console, f"Cache folder: {weights_folder()}")
    if every:
        needs = [Need("", weights_folder() / item.file, tokenizer_only=True) for item in PUBLISHED]
    elif config or preset or overrides:
        needs = needs_of(load_config(config_file(config, preset), overrides or ()))
    else:
        needs = cached_needs()
    if not needs:
        say(console, "No weights. `pseudolabels weights list --all` lists what can be fetched.")
    digest_of = stored_digests().of_file
    width = max((len(need.path.name) for need in needs), default=0)
    for need in needs:
        _show_state(need, state_of(need, digest_of), width, every)


def fetch_missing(config: RunConfig, command: str, agreed: bool) -> None:
    """Fetches the weights that a configuration needs and that are missing or damaged.

    Args:
        command: that does this without a question, for the message.
        agreed: whether the user has agreed to the download.

    Raises:
        ConfigError: there is no terminal to ask at.
        CheckpointError: a server refuses, cannot be reached, or sends another file.
        NoRoomError: the disk is too small.
    """
    from flows.weights.fetch import plan_fetch
    from flows.weights.state import state_of, stored_digests

    digest_of = stored_digests().of_file
    needs = [need for need in needs_of(config) if need.needed]
    absent = [need for need in needs if not state_of(need, digest_of).well]
    if not absent:
        names = ", ".join(need.path.name for need in needs)
        say(console, f"All weights are there: {names}" if needs else "It needs no weights.")
        return
    with console.status("Asking the servers"):
        plan = plan_fetch(absent)
    _show_plan(plan)
    if not agreed:
        _ask(command)
    _fetch(plan)
    say(console, "All weights are there.")


def _fetch(plan: Sequence[Planned]) -> None:
    from flows.weights.fetch import fetch

    try:
        with signals.stoppable(_say_interrupted), reporter(console) as progress:
            fetch(plan, progress)
    except KeyboardInterrupt as error:
        _say_interrupted()
        raise typer.Exit(signals.exit_code(error)) from None


def _ask(command: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"no terminal to ask at; expected --yes, which agrees to the download: {command} --yes"
        )
    if not typer.confirm("Download?", default=True):
        raise typer.Exit(1)


def _show_plan(plan: Sequence[Planned]) -> None:
    width = max(len(item.item.file) for item in plan)
    for item in plan:
        figure = _megabytes(item.size) if item.size else "unknown"
        say(console, f"{item.item.file:<{width}}  {figure:>9}  {item.item.licence}")
    total = _megabytes(sum(item.size or 0 for item in plan))
    folders = dict.fromkeys(str(item.need.path.parent) for item in plan)
    say(console, f"{total} to {', '.join(folders)}. The licences are the publishers'.")


def _show_state(need: Need, state: State, width: int, with_source: bool) -> None:
    mark, style = ("✓", "green") if state.well else ("✗", "red") if state.there else ("–", "dim")
    size = _megabytes(state.size) if state.size else ""
    say(
        console,
        f"{need.path.name:<{width}}  {size:>9}  {state.words}",
        style,
        label=f" {mark}",
    )
    if need.path.parent != weights_folder():
        say(console, f"   at {need.path}")
    if with_source and need.item is not None:
        say(console, f"   {need.item.source}")
        say(console, f"   {need.item.licence}; for {need.item.setting}")


def _megabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _say_interrupted() -> None:
    say(errors, "\nInterrupted. What was fetched is kept; the same command continues.")
