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
from flows.console import Output, say
from pipeline.errors import ConfigError
from storage.exports import FOLDERS, FORMATS

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
        Path,
        typer.Option("--out", help=f"File to write; a folder for {', '.join(sorted(FOLDERS))}."),
    ],
    arguments: RunArguments = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of all runs.")] = None,
    source: FromOption = "masks",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    link: Annotated[
        str,
        typer.Option(help="copy: copies frames. symlink: links to the files of the data set."),
    ] = "copy",
    minimum_j: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Export samples alone of which `guarantee` promised this J or more.",
        ),
    ] = None,
) -> None:
    """Write the masks of a run in the format of another trainer, viewer or server."""
    from flows.context import RunContext
    from flows.exchange.export import export_run
    from flows.report.card import write_export_card

    needs = ("augment", "rank", "merge", "student", "evaluate")
    resolved = resolve_run(arguments, config, dataset, root, split, runs, needs)
    export_run(resolved, to, path, console, source, overwrite, link, minimum_j)
    card = write_export_card(RunContext(resolved), to, path, source, minimum_j)
    say(console, f"{card}: data card")


def import_masks(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Folders with the PNG masks of one method each; or files that CVAT (XML, zip) or"
            " Label Studio (JSON) exported.",
        ),
    ],
    run: Annotated[
        Path | None, typer.Option(help="Run whose masks are fused too; or give --dataset.")
    ] = None,
    config: ConfigOption = None,
    dataset: DatasetOption = None,
    root: RootOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    source: Annotated[
        str, typer.Option("--from", help="Of corrected masks: what was exported before.")
    ] = "masks",
) -> None:
    """Take over corrected masks, or fuse the masks of other methods with those of a run.

    Corrected masks replace those of the run. Masks of other methods are fused with each other and
    with those of the run. The result is written to consensus/ in the folder of the run. Export and
    measure it with --from consensus.
    """
    from flows.exchange.import_corrections import import_corrections
    from flows.exchange.import_masks import import_predictions
    from storage.corrections import is_corrections

    resolved = resolve_run([str(run)] if run else None, config, dataset, root, split, out)
    corrected = [path for path in folders if is_corrections(path)]
    if corrected and len(corrected) < len(folders):
        raise ConfigError(
            f"{corrected[0]}: corrected masks together with folders of masks; expected one kind;"
            " import the folders first, then the corrections with --from consensus"
        )
    if corrected:
        import_corrections(resolved, corrected, source, console)
    else:
        import_predictions(resolved, folders, console)
