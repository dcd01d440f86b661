"""Keeps the local copy of a run in an object store up to date, and fetches products.

The store is the truth: a receipt that it lacks does not count, and one that is another there
replaces the copy's. Products stay in the copy as long as their receipt does. A product that is
missing in the copy is fetched when something reads it.

All functions do nothing for a run that is in a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from flows.planning.run_paths import RunPaths
from flows.planning.stages import STAGE
from pipeline.types import Receipt
from storage.decisions import share_decisions
from storage.files.atomic import replace_file
from storage.remote.mirror import Mirror, each, mirror_of
from storage.run.ledger import FAILURE, Ledger
from storage.run.lock import is_kept_up

AT_ONCE = 512
"""Files that are asked for before the next receipt is read."""

SMALL = ("config.toml", "guarantee.parquet", "calibration.json", "calibration.png")
"""Files at the top of a run that a copy always has."""

OF_ONE_MACHINE = ("ledger/sources/", "ledger/weights.json")
"""What a ledger holds of the files of one machine. It does not go to the store."""


def refresh(folder: Path, under_lock: bool = False, anew: bool = False) -> None:
    """Brings the ledger, the configuration and what people decided up to date.

    Args:
        folder: of the run.
        under_lock: this process holds the run's lock. Without it, nothing is done while a process
            of this machine works on the run, because it keeps the copy up to date.
        anew: fetch files that have not changed in the store too, and compare them.

    Raises:
        ObjectStoreError: the store refuses or cannot be reached.
    """
    mirror = mirror_of(folder)
    if mirror is None:
        return
    with mirror.syncing():
        if not under_lock and is_kept_up(folder):
            return
        there = {entry.name: entry for entry in mirror.objects.walk("ledger")}
        there.update({item.name: item for item in mirror.objects.level()[0] if item.name in SMALL})
        mine = [path for path in map(folder.joinpath, SMALL) if path.is_file()]
        for path in (*(folder / "ledger").rglob("*.json"), *mine):
            name = mirror.name(path)
            if name not in there and not name.startswith(OF_ONE_MACHINE):
                path.unlink()
        known = {} if anew else mirror.known_tags()
        tags = {name: entry.version.tag for name, entry in there.items()}
        each(lambda name: _fetch_note(mirror, name), mirror.changed(there, known))
        if tags != known:
            mirror.remember_tags(tags)
    share_decisions(RunPaths(folder).decisions)


def refresh_notes(folder: Path, stages: Iterable[str], shard: str) -> None:
    """Brings the receipts of a shard, and the notes of its failures, up to date: other machines
    have worked on it."""
    mirror = mirror_of(folder)
    if mirror is not None:
        notes = [f"ledger/{stage}/{shard}" for stage in stages]
        names = [f"{note}{end}" for note in notes for end in (".json", FAILURE)]
        each(lambda name: _fetch_note(mirror, name), names)


def _fetch_note(mirror: Mirror, name: str) -> None:
    """Fetches a small file. A receipt that is another takes the place of what the copy has of its
    product."""
    path = mirror.folder / name
    try:
        content, _ = mirror.objects.get(name)
    except FileNotFoundError:
        path.unlink(missing_ok=True)
        return
    before = path.read_bytes() if path.is_file() else b""
    if before == content:
        return
    path.unlink(missing_ok=True)
    for place in {*_product_of(path, before), *_product_of(path, content)}:
        remove(place)
    with replace_file(path) as file:
        file.write(content)


def _product_of(path: Path, receipt: bytes) -> list[Path]:
    """Returns the files and folders of the product of a receipt, which may be damaged; none for
    another file."""
    stage, run = path.parent.name, path.parents[2]
    if path.parent.parent.name != "ledger" or stage not in STAGE or path.name.endswith(FAILURE):
        return []
    try:
        videos = [str(video) for video in json.loads(receipt)["videos"]]
    except (ValueError, KeyError, TypeError):
        videos = []
    return STAGE[stage].product(RunPaths(run), path.name.removesuffix(".json"), videos)


def fetch_products(
    folder: Path,
    stages: Iterable[str],
    shards: Collection[str] | None = None,
    part: str = "",
) -> None:
    """Fetches what the copy lacks of the products of some stages.

    Args:
        folder: of the run.
        stages: names of stages.
        shards: of the stages with shards; None for all that have receipts.
        part: fetches files alone whose name in the run begins so.

    Raises:
        ObjectStoreError: the store refuses, or an object is not what its receipt says.
    """
    mirror = mirror_of(folder)
    if mirror is None:
        return
    files: dict[str, str] = {}
    for receipt in _receipts(Ledger(folder), stages, shards):
        files.update((name, mark) for name, mark in receipt.files.items() if name.startswith(part))
        if len(files) >= AT_ONCE:
            mirror.fetch(files)
            files = {}
    mirror.fetch(files)


def _receipts(
    ledger: Ledger, stages: Iterable[str], shards: Collection[str] | None
) -> Iterator[Receipt]:
    for stage in stages:
        for path in ledger.receipt_paths(stage):
            shard = path.name.removesuffix(".json")
            if shards is None or shard in shards or STAGE[stage].over == "run":
                receipt = ledger.receipt(stage, shard)
                if receipt is not None:
                    yield receipt


@contextmanager
def pushed(folder: Path) -> Iterator[None]:
    """Writes a folder that has no receipts, such as that of a student, to the store if the block
    ends without an error."""
    yield
    mirror = mirror_of(folder)
    if mirror is not None:
        mirror.push()


def pull(folder: Path) -> None:
    """Fetches a folder that has no receipts. Raises ObjectStoreError if the store refuses."""
    mirror = mirror_of(folder)
    if mirror is not None:
        mirror.pull()


def upload(path: Path) -> None:
    """Writes a file that has no receipt, such as a calibration, to the store."""
    mirror = mirror_of(path.parent)
    if mirror is not None:
        mirror.upload(path)


def download(path: Path) -> None:
    """Fetches a file that has no receipt, such as a checkpoint, if the store has it."""
    mirror = mirror_of(path.parent)
    if mirror is not None:
        mirror.download(path)


def existence(folder: Path) -> Callable[[Path], bool]:
    """Returns what tells whether a file or folder of a run exists, for one pass over many of them:
    each folder of a store is listed once."""
    mirror = mirror_of(folder)
    if mirror is None:
        return Path.exists
    there = mirror

    @cache
    def names(parent: str) -> set[str]:
        objects, folders = there.objects.level(parent)
        return folders | {item.name.rpartition("/")[2] for item in objects}

    def exists(path: Path) -> bool:
        parent, _, name = there.name(path).rpartition("/")
        return name in names(parent)

    return exists


def store_line(folder: Path) -> str:
    """Returns in a sentence where a run of an object store is, and its copy; empty for others."""
    mirror = mirror_of(folder)
    return "" if mirror is None else f"The run is at {mirror.url}; its local copy is {folder}."


def remove_product(folder: Path, places: Collection[Path]) -> None:
    """Removes files and folders of a run, also in its store."""
    mirror = mirror_of(folder)
    if mirror is not None:
        mirror.clear(places)
    for place in places:
        remove(place)


def remove(place: Path) -> None:
    """Removes a file, a folder or a symbolic link, if it exists. Does not follow the link."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
