"""``pseudolabels verify``, ``repair`` and ``digest``: whether a run's bytes are what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from flows.console import Output, say

if TYPE_CHECKING:
    from flows.integrity.verify import Contents

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]

console = Output()
errors = Output(stderr=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(verify)
    app.command()(repair)
    app.command()(digest)


def verify(folder: RunFolder) -> None:
    """Reads every byte of a run and says what is not as its receipts say. Changes nothing."""
    from flows.integrity.verify import Contents, check_idle
    from flows.integrity.verify import verify as find_problems

    check_idle(folder)
    found, count = Contents(), 0
    with _reading("verify", found) as advance:
        for problem in find_problems(folder, found, advance):
            count += 1
            _say(f"{_short(problem.path, folder)}: {problem.what}")
    _say(_summary(found))
    if count:
        _say(f"{count} wrong; make just that undone with: pseudolabels repair {folder}")
        raise typer.Exit(1)
    _say("All is as it was written.")


def repair(folder: RunFolder) -> None:
    """Makes what `verify` finds undone: its receipts and products go, and nothing else. The next
    run does just that again.
    """
    from flows.integrity.repair import repair as fix
    from flows.integrity.verify import Contents, check_run_folder
    from storage.run.lock import RunLock

    check_run_folder(folder)
    found = Contents()
    with RunLock(folder), _reading("repair", found) as advance:
        done = fix(folder, found, advance)
    for problem in done.problems:
        _say(f"{_short(problem.path, folder)}: {problem.what}")
    for stage, shard in done.undone:
        _say(f"undone: {stage} {shard}")
    for place in done.removed:
        _say(f"removed: {_short(place, folder)}")
    if not done.problems:
        _say("Nothing is wrong.")
        return
    _say("The next run does it again; start it as before.")


def digest(folder: RunFolder) -> None:
    """Prints one digest of a run's masks and tables, whatever its shards, order or time."""
    from flows.integrity.content_digest import content_digest

    with errors.status("Reading masks and tables"):
        value = content_digest(folder)
    _say(value)


@contextmanager
def _reading(what: str, found: Contents) -> Iterator[Callable[[int], None]]:
    """A bar of bytes read on the terminal, for as long as the block lasts."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(size: int) -> None:
            bar.update(task, advance=size, total=found.size)

        yield advance


def _summary(found: Contents) -> str:
    return (
        f"{len(found.videos)} receipts, {found.files} files, {found.size / 1e6:.1f} MB looked at."
    )


def _short(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _say(text: str) -> None:
    say(console, text)
