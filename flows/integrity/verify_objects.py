"""Checks the objects of a run in an object store. They are read in pieces, and not stored here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flows.integrity.contents import Contents, Problem, there_or_not
from flows.planning.mirrored import OF_ONE_MACHINE
from flows.planning.run_paths import OWN_NAMES, RunPaths
from flows.planning.sources import OF_OBJECTS
from flows.planning.stages import ALL, RUN_STAGES, SHARD_STAGES, STAGE, STAGES
from pipeline.types import Receipt
from storage.files.atomic import PARTIAL_SUFFIX
from storage.remote.mirror import Mirror, spread
from storage.run.ledger import FAILURE, Ledger

Key = tuple[str, str]
"""(stage, shard) of a receipt."""


def objects_problems(
    paths: RunPaths,
    mirror: Mirror,
    found: Contents,
    layout: Mapping[str, tuple[str, ...]],
    progress: Callable[[int], None],
) -> Iterator[Problem]:
    """Yields what is wrong with the objects of products, and what has no receipt.

    Args:
        found: what the ledger holds.
        layout: the videos of each shard.
        progress: called with numbers of bytes that were read.
    """
    ledger = Ledger(paths.folder)
    for stage, shard in found.videos:
        receipt = ledger.receipt(stage, shard)
        if receipt is not None:
            yield from _of_product(mirror, receipt, progress)
    yield from _without_receipt(paths, mirror, found, layout)


def _of_product(
    mirror: Mirror, receipt: Receipt, progress: Callable[[int], None]
) -> Iterator[Problem]:
    def look(item: tuple[str, str]) -> str | None:
        return mirror.problem(*item)

    for (name, mark), what in zip(
        receipt.files.items(), spread(look, receipt.files.items()), strict=True
    ):
        progress(int(mark.split()[0]))
        if what is not None:
            yield Problem(mirror.folder / name, what, receipt.stage, receipt.shard)


def _without_receipt(
    paths: RunPaths, mirror: Mirror, found: Contents, layout: Mapping[str, tuple[str, ...]]
) -> Iterator[Problem]:
    """Yields what no receipt stands for. A listing is sorted, so one receipt is held at a time."""
    key_of = _keys(paths, mirror, found, layout)
    held: Receipt | None = None
    told: set[Path] = set()
    for entry in mirror.objects.walk():
        path = mirror.folder / entry.name
        if entry.name.endswith(PARTIAL_SUFFIX):
            yield Problem(path, "left behind by a writer that was ended", place=path)
            continue
        key = next((key_of[name] for name in _with_parents(entry.name) if name in key_of), None)
        if key is None:
            what = _stray(paths, mirror, entry.name)
            if what is not None and what.path not in told:
                told.add(what.path)
                yield what
        elif key in found.videos:
            if held is None or (held.stage, held.shard) != key:
                held = Ledger(paths.folder).receipt(*key)
            if held is not None and entry.name not in held.files:
                loose = there_or_not(paths, held)
                if not {path, *path.parents}.intersection(loose):
                    yield Problem(path, "a file that its receipt does not know", *key)


def _keys(
    paths: RunPaths, mirror: Mirror, found: Contents, layout: Mapping[str, tuple[str, ...]]
) -> dict[str, Key]:
    """Returns the name of each file or folder of a product -> its receipt, readable or not."""
    keys = {}
    for stage, shard in found.videos.keys() | found.broken:
        videos = found.videos.get((stage, shard)) or layout.get(shard, ())
        for place in STAGE[stage].product(paths, shard, videos):
            keys[mirror.name(place)] = (stage, shard)
    return keys


def _stray(paths: RunPaths, mirror: Mirror, name: str) -> Problem | None:
    """Returns what is wrong with an object that belongs to no receipt; None if it is in order."""
    path, parts = mirror.folder / name, name.split("/")
    if parts[0] in SHARD_STAGES or parts[0] == paths.masks.name:
        place = mirror.folder / parts[0] / parts[1]
        root = place == paths.masks / "zarr.json"
        return None if root else Problem(place, "a product without a receipt", place=place)
    for stage in RUN_STAGES:
        for place in STAGE[stage].product(paths, ALL):
            if place == path or place in path.parents:
                return Problem(place, "a product without a receipt", place=place)
    if parts[0] == "ledger":
        known = len(parts) == 3 and parts[1] in STAGES and parts[2].endswith((".json", FAILURE))
        # A run that was moved here from a folder has digests of files, too.
        known |= name.startswith(("ledger/layout.json", f"ledger/{OF_OBJECTS}/", *OF_ONE_MACHINE))
        return None if known else _foreign(path)
    return None if parts[0] in OWN_NAMES else _foreign(path)


def _foreign(path: Path) -> Problem:
    return Problem(path, "not a part of a run; move it away")


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition("/")[0]
