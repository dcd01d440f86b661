"""``pseudolabels export`` and ``import-masks``: masks to other formats, and from other methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import (
    ConfigOption,
    DatasetOption,
    FromOption,
    OutOption,
    RootOption,
    RunArguments,
    SplitOption,
    resolve_run,
)
from flows.console import Output
from storage.exports import FORMATS

console = Output()


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("export")(export)
    app.command("import-masks")(import_masks)


def export(
    to: Annotated[str, typer.Option("--to", help=f"{', '.join([*FORMATS, 'wsrvos'])}.")],
    path: Annotated[Path, typer.Option("--out", help="File, or folder for ytvos and fiftyone.")],
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    runs: Annotated[Path | None, typer.Option(help="Folder that holds runs.")] = None,
    source: FromOption = "masks",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export at the path.")] = False,
) -> None:
    """Writes the masks of a run for other trainers, viewers and servers."""
    from flows.exchange.export import export_run

    resolved = resolve_run(arguments, config, dataset, root, split, runs)
    export_run(resolved, to, path, console, source, overwrite)


def import_masks(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="A method's PNG predictions each."),
    ],
    run: Annotated[Path | None, typer.Option(help="The run that they join; see --dataset.")] = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Fuses other methods' masks with those of a run, or with each other, and writes the result
    beside the run's as a store that is exported and evaluated with `--from consensus`.
    """
    from flows.exchange.import_masks import import_predictions

    resolved = resolve_run([str(run)] if run else None, config, dataset, root, split, out)
    import_predictions(resolved, folders, console)
