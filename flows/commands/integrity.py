"""``pseudolabels verify``, ``repair`` and ``digest``: check that a run is as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from flows.commands.options import example
from flows.console import Output, say
from flows.planning.mirrored import refresh
from flows.planning.run_config import place_of_run
from pipeline.store_urls import shown

if TYPE_CHECKING:
    from flows.integrity.contents import Contents

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder or address of a run.")]

console = Output()
errors = Output(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(epilog=example("verify runs/shapes-train"))(verify)
    app.command(epilog=example("repair runs/shapes-train"))(repair)
    app.command(epilog=example("digest runs/shapes-train"))(digest)


def verify(folder: RunFolder) -> None:
    """Check every file of a run against the checksums in its receipts. Changes nothing.

    Exits with 1 if a file is missing, damaged or not covered by a receipt.
    """
    from flows.integrity.contents import Contents
    from flows.integrity.verify import check_idle
    from flows.integrity.verify import verify as find_problems

    folder = place_of_run(folder)
    check_idle(folder)
    found, count = Contents(), 0
    with _reading("verify", found) as advance:
        for problem in find_problems(folder, found, advance):
            count += 1
            _say(f"{_short(problem.path, folder)}: {problem.what}")
    _say(_summary(found))
    if count:
        command = f"pseudolabels repair {shown(folder)}"
        _say(f"{count} problems found; remove what is damaged with: {command}")
        raise typer.Exit(1)
    _say("All files are as they were written.")


def repair(folder: RunFolder) -> None:
    """Remove the receipts and products that `verify` reports, and nothing else.

    The next run makes them again.
    """
    from flows.integrity.contents import Contents
    from flows.integrity.repair import repair as fix
    from flows.integrity.verify import check_run_folder
    from storage.run.lock import RunLock

    folder = place_of_run(folder)
    refresh(folder)
    check_run_folder(folder)
    found = Contents()
    with RunLock(folder), _reading("repair", found) as advance:
        done = fix(folder, found, advance)
    for problem in done.problems:
        _say(f"{_short(problem.path, folder)}: {problem.what}")
    for stage, shard in done.undone:
        _say(f"to be done again: {stage} {shard}")
    for place in done.removed:
        _say(f"removed: {_short(place, folder)}")
    if not done.problems:
        _say("No problems found.")
        return
    _say("The next run makes them again; start it as before.")


def digest(folder: RunFolder) -> None:
    """Print one digest of a run's masks and tables.

    It does not depend on shards, order or time. Two runs have the same digest only if batch sizes,
    device, number of threads and attention kernels are the same.
    """
    from flows.integrity.content_digest import content_digest

    folder = place_of_run(folder)
    with errors.status("Reading masks and tables"):
        refresh(folder)
        value = content_digest(folder)
    _say(value)


@contextmanager
def _reading(what: str, found: Contents) -> Iterator[Callable[[int], None]]:
    """Shows a bar of the bytes read while the block runs."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(size: int) -> None:
            bar.update(task, advance=size, total=found.size)

        yield advance


def _summary(found: Contents) -> str:
    return f"{len(found.videos)} receipts, {found.files} files, {found.size / 1e6:.1f} MB checked."


def _short(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _say(text: str) -> None:
    say(console, text)
