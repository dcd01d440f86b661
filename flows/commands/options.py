"""Options that commands share, and the configuration that they result in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.planning.mirrored import fetch_products, refresh
from flows.planning.presets import PRESETS, config_of_preset
from flows.planning.run_config import config_of_run
from flows.planning.stages import STAGES
from pipeline.config import RunConfig, given, load_config
from pipeline.errors import ConfigError
from pipeline.store_urls import local_place

_SETTING = re.compile(r"\s*[\w.]+\s*=")
"""The start of ``section.key=value``."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file with settings. Default: the demo models."),
]
PresetOption = Annotated[
    str | None,
    typer.Option(help=f"{', '.join(PRESETS)}: the configuration of that name, for such a machine."),
]
DatasetOption = Annotated[str | None, typer.Option(help="Name of the data set, such as refytvos.")]
DATA_HELP = "Folder of the data set, or its address, such as s3://BUCKET/PREFIX."
RootOption = Annotated[Path | None, typer.Option(help=DATA_HELP)]


def _place(word: str) -> Path:
    try:
        return local_place(word)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


DATA = typer.Option("--root", parser=_place, metavar="PATH", help=DATA_HELP)
"""Where a data set is, for commands without a configuration."""

SplitOption = Annotated[str | None, typer.Option(help="Split to label.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder that holds runs, or s3://, gs:// or az://BUCKET/PREFIX.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Such as rank.threshold=0.6."),
]
RunArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] [SECTION.KEY=VALUE]...",
        help="Folder or address of a run; without it, name the run by the options of `run`. Then"
        " settings.",
    ),
]
FromOption = Annotated[
    str, typer.Option("--from", help="masks, student, consensus, or the path of a mask store.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
RunnerOption = Annotated[
    str | None, typer.Option(help="local: this process. ray: the workers of a Ray cluster.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Number of workers of a Ray cluster started here.")
]


def example(words: str) -> str:
    """The line at the end of a command's help, given what follows ``pseudolabels``."""
    return f"Example: pseudolabels {words}"


def unwrap_help(app: typer.Typer) -> None:
    """Joins the lines of each paragraph of the commands' help: the terminal wraps them anew."""
    for command in app.registered_commands:
        if command.callback is not None and command.help is None:
            paragraphs = inspect.getdoc(command.callback) or ""
            command.help = "\n\n".join(" ".join(p.split()) for p in paragraphs.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            unwrap_help(group.typer_instance)


def resolve(
    config: Path | None,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    out: Path | None,
    overrides: Sequence[str] | None,
    device: str | None = None,
    seed: int | None = None,
    runner: str | None = None,
    workers: int | None = None,
    preset: str | None = None,
) -> RunConfig:
    """Returns the configuration of a file or preset, options and overrides. Later ones win."""
    options = {
        "dataset.name": dataset,
        "dataset.root": root,
        "dataset.split": split,
        "out": out,
        "device": device,
        "seed": seed,
        "runner.kind": runner,
        "runner.workers": workers,
    }
    chosen = [given(name, value) for name, value in options.items() if value is not None]
    return load_config(config_file(config, preset), [*chosen, *(overrides or ())])


def config_file(config: Path | None, preset: str | None) -> Path | None:
    """Returns the file that --config or --preset names; None without either.

    Raises:
        ConfigError: both are given, or there is no such preset.
    """
    if preset is None:
        return config
    if config is not None:
        raise ConfigError(
            f"--config {config} with --preset {preset}: both name a configuration; give one of them"
        )
    return config_of_preset(preset)


def resolve_run(
    arguments: Sequence[str] | None,
    config: Path | None,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    out: Path | None,
    needs: Sequence[str] = STAGES,
) -> RunConfig:
    """Returns the configuration of a run, named by its folder or by the options of `run`. Fetches
    what is needed of a run in an object store.

    Args:
        arguments: the run's folder, if any, then overrides. The first word is a folder if there is
            a folder of this name, or if it does not have the form ``key=value``.
        needs: stages whose products the command reads.

    Raises:
        ConfigError: the folder is not a run.
        ObjectStoreError: the store refuses or cannot be reached.
    """
    words = list(arguments or ())
    if not words or not _is_folder(words[0]):
        found = resolve(config, dataset, root, split, out, words)
        refresh(found.run_folder)
    else:
        options = {"dataset.name": dataset, "dataset.root": root, "dataset.split": split}
        chosen = [given(name, value) for name, value in options.items() if value is not None]
        found = config_of_run(Path(words[0]), [*chosen, *words[1:]], config, out)
    fetch_products(found.run_folder, needs)
    return found


def with_settings(arguments: Sequence[str] | None, settings: Sequence[str]) -> list[str]:
    """Returns the words of a command line with settings before its own, which override them."""
    words = list(arguments or ())
    place = 1 if words and _is_folder(words[0]) else 0
    return [*words[:place], *settings, *words[place:]]


def _is_folder(word: str) -> bool:
    return not _SETTING.match(word) or Path(word).is_dir()
