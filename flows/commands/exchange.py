"""``pseudolabels export`` and ``import-masks``: write masks in other formats, and fuse masks of
other methods.
"""

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
    example,
    resolve_run,
)
from flows.console import Output
from storage.exports import FORMATS

console = Output()


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command("export", epilog=example("export runs/shapes-train --to ytvos --out exported"))(
        export
    )
    app.command(
        "import-masks", epilog=example("import-masks osvos rvos --run runs/refdavis-valid")
    )(import_masks)


def export(
    to: Annotated[str, typer.Option("--to", help=f"{', '.join([*FORMATS, 'wsrvos'])}.")],
    path: Annotated[
        Path, typer.Option("--out", help="File to write; a folder for fiftyone, video and ytvos.")
    ],
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of all runs.")] = None,
    source: FromOption = "masks",
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
) -> None:
    """Write the masks of a run in the format of another trainer, viewer or server."""
    from flows.exchange.export import export_run

    resolved = resolve_run(arguments, config, dataset, root, split, runs)
    export_run(resolved, to, path, console, source, overwrite)


def import_masks(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders with the PNG masks of one method each."),
    ],
    run: Annotated[
        Path | None, typer.Option(help="Run whose masks are fused too; or give --dataset.")
    ] = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
) -> None:
    """Fuse the masks of other methods with each other and with those of a run.

    The result is written to consensus/ in the folder of the run. Export and measure it with
    --from consensus.
    """
    from flows.exchange.import_masks import import_predictions

    resolved = resolve_run([str(run)] if run else None, config, dataset, root, split, out)
    import_predictions(resolved, folders, console)
