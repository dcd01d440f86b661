"""``pseudolabels dataset``: check a data set, or show what is in it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import DATA, example
from flows.console import Output, add_row, grid, plain, say, write

if TYPE_CHECKING:
    from storage.datasets.check import DatasetCheck

app = typer.Typer(
    no_args_is_help=True,
    help="Check a data set, or show what is in it.",
    epilog=example("dataset check --dataset refytvos --root DATA"),
)
console = Output()

SHOWN_FINDINGS = 50

NameOption = Annotated[
    str, typer.Option("--dataset", help="Name of the data set, such as refytvos.")
]
FolderOption = Annotated[Path, DATA]
ReadSplitOption = Annotated[str, typer.Option(help="Split to read.")]


@app.command("check", epilog=example("dataset check --dataset refytvos --root DATA"))
def check(
    dataset: NameOption,
    root: FolderOption,
    split: ReadSplitOption = "train",
    quick: Annotated[
        bool, typer.Option("--quick", help="Read image headers only; decode no frames.")
    ] = False,
    inside: Annotated[
        bool,
        typer.Option(
            "--inside", help="Reject links that lead out of --root, as dataset.links=inside."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find missing, broken and unusual files of a data set.

    Also prints counts beside the published ones, and what labelling it would cost. Exits with 1 if
    something is missing or broken.
    """
    from storage.datasets import open_dataset
    from storage.datasets.check import check_dataset

    reader = open_dataset(dataset, root, split, "inside" if inside else "follow")
    total, done = len(reader.video_ids()), 0
    with Output(stderr=True).status("") as status:

        def advance(video_id: str) -> None:
            nonlocal done
            done += 1
            status.update(plain(f"{done} of {total} videos: {video_id}"))

        found = check_dataset(reader, not quick, advance)
    if as_json:
        write(console, json.dumps(_document(found), indent=2) + "\n")
    else:
        _show_check(found, f"{dataset} {split}")
    if any(item.kind != "odd" for item in found.findings):
        raise typer.Exit(1)


@app.command("show", epilog=example("dataset show --dataset mevis --root DATA --sheet sheet.png"))
def show(
    dataset: NameOption,
    root: FolderOption,
    split: ReadSplitOption = "train",
    sheet: Annotated[Path | None, typer.Option(help="PNG file for the contact sheet.")] = None,
    videos: Annotated[int, typer.Option(min=1, help="Number of videos on the contact sheet.")] = 12,
) -> None:
    """Print statistics of a data set; with --sheet, also write a contact sheet."""
    from flows.report.contact_sheet import write_contact_sheet
    from storage.datasets import open_dataset
    from storage.datasets.statistics import dataset_statistics

    reader = open_dataset(dataset, root, split)
    table = grid(("", "left"), ("", "left"), title=f"{dataset} {split}", header=False)
    for name, value in dataset_statistics(reader).rows():
        add_row(table, name, value)
    console.print(table)
    if sheet is None:
        say(console, "--sheet FILE.png writes a contact sheet: a frame and a sentence per video.")
        return
    count = write_contact_sheet(reader, sheet, videos)
    if count:
        say(console, f"Contact sheet of {count} videos: {sheet}")
    else:
        say(console, "No video could be read, so there is no contact sheet; see `dataset check`.")


def _show_check(found: DatasetCheck, title: str) -> None:
    from pipeline.costs import BOX_SECONDS, MASK_SECONDS, POINT_SECONDS, labelling_costs

    table = grid(("", "left"), ("here", "right"), ("published", "right"), title=title)
    for name, count in found.counts.items():
        published = found.published.get(name)
        add_row(table, name, f"{count:,}", "" if published is None else f"{published:,}")
    console.print(table)
    for item in found.findings[:SHOWN_FINDINGS]:
        colour = "yellow" if item.kind == "odd" else "red"
        say(console, f"{item.path}: {item.words}", colour, label=item.kind)
    if len(found.findings) > SHOWN_FINDINGS:
        say(console, f"… and {len(found.findings) - SHOWN_FINDINGS} more; --json lists all of them")
    if not found.findings:
        say(console, "Nothing is missing, broken or odd.")
    names = ("masks", "boxes", "points", "hours", "times less")
    title = f"Labelling cost at {MASK_SECONDS:g} s a mask, {BOX_SECONDS:g} s a box"
    title += f" and {POINT_SECONDS:g} s a point"
    table = grid(("", "left"), *((name, "right") for name in names), title=title)
    for cost in labelling_costs(found.shown):
        add_row(
            table,
            cost.name,
            f"{cost.masks:,}",
            f"{cost.boxes:,}",
            f"{cost.points:,}",
            f"{cost.seconds / 3600:,.1f}",
            f"{cost.times_less:.1f}" if math.isfinite(cost.times_less) else "–",
        )
    console.print(table)
    if not found.counts["masks"]:
        say(console, "Without ground truth, every frame is assumed to show its target.")


def _document(found: DatasetCheck) -> dict[str, object]:
    from pipeline.costs import labelling_costs

    return {
        "counts": dict(found.counts),
        "published": found.published,
        "findings": [vars(item) for item in found.findings],
        "labelling_seconds": {cost.name: cost.seconds for cost in labelling_costs(found.shown)},
    }
