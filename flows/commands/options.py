"""Options that commands share, and the configuration that they make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.planning.run_paths import RunPaths
from pipeline.config import RunConfig, load_config
from pipeline.errors import ConfigError

_SETTING = re.compile(r"\s*[\w.]+\s*=")
"""How ``section.key=value`` begins."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; the demo models without one.")
]
DatasetOption = Annotated[str | None, typer.Option(help="A reader's name, such as refytvos.")]
RootOption = Annotated[Path | None, typer.Option(help="The data set's folder.")]
SplitOption = Annotated[str | None, typer.Option(help="The split to label.")]
OutOption = Annotated[Path | None, typer.Option(help="Folder that holds runs.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Such as rank.threshold=0.6."),
]
RunArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] [SECTION.KEY=VALUE]...",
        help="A run's folder, or nothing and the options of `run`; overrides.",
    ),
]
FromOption = Annotated[
    str, typer.Option("--from", help="masks, student, consensus, or the path of a mask store.")
]


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
) -> RunConfig:
    """The configuration that a file, options and overrides make; the later win."""
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
    return load_config(config, [*chosen, *(overrides or ())])


def resolve_run(
    arguments: Sequence[str] | None,
    config: Path | None,
    dataset: str | None,
    root: Path | None,
    split: str | None,
    out: Path | None,
) -> RunConfig:
    """The configuration of a run, by its folder or by the options that made it.

    Args:
        arguments: overrides, and before them the run's folder or none. A word is a folder where
            there is such a folder, whatever letters are in its name, or where it sets nothing.

    Raises:
        ConfigError: the folder holds no run.
    """
    words = list(arguments or ())
    if not words or not _is_folder(words[0]):
        return resolve(config, dataset, root, split, out, words)
    folder, overrides = Path(words[0]), words[1:]
    stored = RunPaths(folder).config
    if not stored.is_file():
        raise ConfigError(
            f"{folder}: no config.toml; expected the folder of a run, <out>/<dataset>-<split>;"
            " give it, or --dataset, --split and --out"
        )
    # The folder may have been moved since it was written, and its data set with it.
    found = resolve(
        config or stored, dataset, root, split, out or folder.resolve().parent, overrides
    )
    if found.run_folder.name != folder.resolve().name:
        raise ConfigError(
            f"{folder}: its config.toml is of {found.run_folder.name}; expected a folder of that"
            " name; name it so again"
        )
    return found


def _is_folder(word: str) -> bool:
    return not _SETTING.match(word) or Path(word).is_dir()


def given(name: str, value: object) -> str:
    """The override that an option stands for."""
    return f"{name}={_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
