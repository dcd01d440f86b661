"""``pseudolabels label``: masks and an overlay of your own video, from a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.continued import do_continuable
from flows.commands.options import (
    ConfigOption,
    DeviceOption,
    PresetOption,
    config_file,
    example,
)
from flows.console import Output, say
from flows.outcome import RunOutcome
from flows.planning.stand_ins import stand_in_warning
from flows.weights.needs import check_weights, fetch_command, preset_of_this_machine
from pipeline.config import RunConfig

console = Output()

_SETTING = re.compile(r"[a-z_]\w*(\.\w+)*=")


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command("label", epilog=example('label dog.mp4 --text "the brown dog on the left"'))(label)


def label(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO... [SECTION.KEY=VALUE]...",
            help="Video files (mp4, mov, avi, mkv, webm, gif) and folders of frames; then settings,"
            " such as rank.threshold=0.6.",
        ),
    ],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", "-t", help="What to find in every video. Can be repeated."),
    ] = None,
    frames_per_second: Annotated[
        float | None, typer.Option(help="Frames that are taken of a second. Default: all.")
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(help="Longest side of the frames, pixels. Default: as they are.")
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(min=0, help="Where to begin, seconds; of a folder, the number of a frame."),
    ] = None,
    end: Annotated[
        float | None, typer.Option(min=0, help="Where to end, as for --start; exclusive.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("labels"),
    config: ConfigOption = None,
    preset: PresetOption = None,
    device: DeviceOption = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch missing published weights first.")
    ] = False,
) -> None:
    """Make masks of what sentences describe in your own videos, and a video that shows them.

    Writes OUT/<video>/overlay.mp4, tracks.mp4 and masks/<expression>/<frame>.png, and beside them a
    run like any other, OUT/videos-train. Nothing is written beside the videos. Without --config and
    --preset, the preset that fits this machine is used. Exits with 1 if no frame has a mask.
    """
    from flows.exchange.own_videos import (
        Request,
        check_outputs,
        check_request,
        label_config,
        with_request,
    )

    settings = [word for word in arguments if _is_setting(word)]
    videos = [Path(word).expanduser() for word in arguments if not _is_setting(word)]
    request = Request(tuple(dict.fromkeys(videos)), tuple(dict.fromkeys(text or ())), start, end)
    configured = partial(label_config, device=device, rate=frames_per_second, max_size=max_size)
    resolved = configured(out, config_file(config, preset), settings)
    check_request(request, resolved.dataset.frames_per_second)
    if config is None and preset is None and (preset := preset_of_this_machine(settings)):
        say(console, f"Preset {preset}, which fits this machine; --preset names another one.")
        resolved = configured(out, config_file(None, preset), settings)
    _check_models(resolved, fetch_command(config, preset, tuple(settings)), fetch)
    resolved = with_request(request, resolved)
    ids = resolved.dataset.only_videos
    check_outputs(resolved, ids)
    outcomes: list[RunOutcome] = []

    def work(begun: Callable[[], None]) -> None:
        from flows.commands.run import run_all

        run_all(resolved, console, committed=begun, ended=outcomes.append, preset=preset)
        _write_results(resolved, ids)

    do_continuable(work)
    if any(outcome.is_nothing for outcome in outcomes):
        raise typer.Exit(1)


def _check_models(config: RunConfig, command: str, fetch: bool) -> None:
    """Raises ConfigError or CheckpointError if the device or weights are missing; fetches weights
    if asked to."""
    from flows.commands.run import check_new_run
    from flows.commands.weights import fetch_missing

    check_new_run(config)
    if fetch:
        fetch_missing(config, command, agreed=True)
    check_weights(config, command, "--fetch")


def _write_results(config: RunConfig, ids: tuple[str, ...]) -> None:
    from flows.exchange.own_videos import write_results

    with console.status("Writing overlays"):
        folders, report = write_results(config, ids)
    for note in report.notes:
        say(console, note, "yellow", label="note")
    if warning := stand_in_warning(config):
        say(console, warning, "bold red")
    for folder in folders:
        say(console, f"Overlay: {folder / 'overlay.mp4'}", "bold")
        if (tracks := folder / "tracks.mp4").is_file():
            say(console, f"Tracks: {tracks}")
        say(console, f"Masks: {folder / 'masks'}")


def _is_setting(word: str) -> bool:
    return bool(_SETTING.match(word)) and not Path(word).exists()
