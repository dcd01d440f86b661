"""``pseudolabels verify``: check that every file of a run is as its receipt says.

Reads the ledger and the files, but not the data set. Needs no configuration, so a damaged one is
found like any other file. Files are read one mebibyte at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from flows.integrity.contents import Contents, Problem, there_or_not
from flows.integrity.leftovers import student_folders
from flows.integrity.verify_objects import objects_problems
from flows.planning.mirrored import refresh
from flows.planning.run_config import run_config_problem
from flows.planning.run_paths import OWN_NAMES, RunPaths
from flows.planning.sources import OF_OBJECTS
from flows.planning.stages import ALL, RUN_STAGES, SHARD_STAGES, STAGE, STAGES
from pipeline.errors import InputError, RunLockedError, StoreError
from pipeline.store_urls import url_of
from storage.arrays.zarr_groups import group_attributes
from storage.files.atomic import PARTIAL_SUFFIX, name_of_partial
from storage.files.checksums import mark_file, product_digest, walk_all
from storage.files.names import stored_name
from storage.files.sealed_json import read_sealed
from storage.remote.mirror import mirror_of
from storage.run.layout import layout_of_receipts, layout_path, read_layout
from storage.run.ledger import Ledger, read_failure, read_receipt
from storage.run.lock import lock_holder, works_under_lock


def check_run_folder(folder: Path) -> None:
    """Raises InputError unless a folder holds a run."""
    if (folder / "ledger").is_dir():
        return
    if (url := url_of(folder)) is not None:
        raise InputError(
            url,
            "no run there",
            "the address of a run, <out>/<dataset>-<split>",
            "check the address",
        )
    runs = sorted(path.parent.name for path in folder.glob("*/ledger")) if folder.is_dir() else []
    raise InputError(
        folder,
        "no such folder" if not folder.is_dir() else "no ledger in it",
        "the folder of a run, <out>/<dataset>-<split>",
        f"give one of its runs: {', '.join(runs)}" if runs else "check the path",
    )


def check_idle(folder: Path) -> None:
    """Raises RunLockedError if another process writes to a run, because its work looks damaged."""
    holder = lock_holder(folder)
    if holder is not None:
        raise RunLockedError(
            f"{folder}: a run writes here ({holder}); expected none; wait for it or end it, and try"
            " again"
        )


def verify(
    folder: Path, found: Contents, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Problem]:
    """Yields what is wrong with a run, one file at a time.

    Args:
        folder: of the run.
        found: filled in with what the ledger holds.
        progress: called with numbers of bytes that were read.

    Raises:
        InputError: the folder is not a run.
    """
    refresh(folder, works_under_lock(folder), anew=True)
    check_run_folder(folder)
    paths = RunPaths(folder)
    layout: Mapping[str, tuple[str, ...]] = {}
    try:
        layout = read_layout(folder)
    except StoreError as error:
        yield Problem(layout_path(folder), f"unreadable ({error.__cause__})")
    if not layout_path(folder).exists() and layout_of_receipts(Ledger(folder), SHARD_STAGES):
        yield Problem(layout_path(folder), "missing; expected the videos of each shard")
    yield from _config(paths, folder)
    yield from _receipts(folder, found, layout)
    mirror = mirror_of(folder)
    if mirror is not None:
        yield from objects_problems(paths, mirror, found, layout, progress)
        return
    yield from _products(paths, found, progress)
    yield from _leftovers(paths, found, layout)
    yield from _foreign(paths)


def _config(paths: RunPaths, folder: Path) -> Iterator[Problem]:
    problem = run_config_problem(paths.config)
    if problem is not None:
        yield Problem(paths.config, problem, place=paths.config)
    ledger = folder / "ledger"
    sources = sorted((*ledger.glob("sources/*.json"), *ledger.glob(f"{OF_OBJECTS}/*.json")))
    for digests in (ledger / "weights.json", *sources):
        try:
            if digests.is_file():
                read_sealed(digests)
        except (OSError, ValueError) as error:
            yield Problem(digests, f"unreadable ({error})", place=digests)


def _receipts(
    folder: Path, found: Contents, layout: Mapping[str, tuple[str, ...]]
) -> Iterator[Problem]:
    """Reads every receipt. Adds the valid ones to ``found``."""
    ledger = Ledger(folder)
    for stage in STAGES:
        for path in ledger.receipt_paths(stage):
            shard = path.name.removesuffix(".json")
            try:
                receipt = read_receipt(path)
            except (OSError, ValueError) as error:
                found.broken.add((stage, shard))
                yield Problem(path, f"unreadable receipt ({error})", stage, shard)
                continue
            whole = receipt.files and product_digest(receipt.files) == receipt.product
            if not whole and not receipt.released:
                found.broken.add((stage, shard))
                yield Problem(path, "its product's digest is not that of its files", stage, shard)
                continue
            if layout and shard not in ((ALL,) if stage in RUN_STAGES else layout):
                found.broken.add((stage, shard))
                yield Problem(path, "a receipt of a shard that is not laid out", stage, shard)
                continue
            found.videos[stage, shard] = receipt.videos
            found.files += len(receipt.files)
            found.size += sum(int(mark.split()[0]) for mark in receipt.files.values())
        for path in sorted((ledger.folder / stage).glob("*.failed.json")):
            try:
                read_failure(path)
            except (OSError, ValueError) as error:
                yield Problem(path, f"unreadable note of a failure ({error})", place=path)


def _products(
    paths: RunPaths, found: Contents, progress: Callable[[int], None]
) -> Iterator[Problem]:
    ledger = Ledger(paths.folder)
    for stage, shard in found.videos:
        # Read it again, because the lists of files of all receipts are too large to hold.
        receipt = ledger.receipt(stage, shard)
        if receipt is None:
            continue
        for name, mark in receipt.files.items():
            what = _file_problem(paths.folder / name, mark, progress)
            if what is not None:
                yield Problem(paths.folder / name, what, stage, shard)
        known = _with_parents(paths.folder, receipt.files)
        loose = there_or_not(paths, receipt)
        for place in STAGE[stage].product(paths, shard, receipt.videos):
            for item in () if place in loose else walk_all(place):
                if item not in known and not item.name.endswith(PARTIAL_SUFFIX):
                    yield Problem(
                        item, f"{_kind(item)} that its receipt does not know", stage, shard
                    )


def _file_problem(path: Path, mark: str, progress: Callable[[int], None]) -> str | None:
    expected = int(mark.split()[0])
    try:
        if path.is_symlink():
            return "a symbolic link; expected a file"
        size = path.stat().st_size
        if size != expected:
            return f"{size} bytes; expected {expected}"
        return None if mark_file(path, progress) == mark else "other bytes than were written"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"not readable ({error.strerror})"


def _leftovers(
    paths: RunPaths, found: Contents, layout: Mapping[str, tuple[str, ...]]
) -> Iterator[Problem]:
    """Yields products without a receipt. Unreadable receipts were reported before."""
    known = found.videos.keys() | found.broken
    for stage in SHARD_STAGES:
        folder = paths.folder / stage
        shards = [shard for name, shard in known if name == stage]
        expected = {place for shard in shards for place in STAGE[stage].product(paths, shard)}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path not in expected and not path.name.endswith(PARTIAL_SUFFIX):
                yield Problem(path, "a product without a receipt", place=path)
    for stage in RUN_STAGES:
        path = STAGE[stage].product(paths, ALL)[0]
        if (stage, ALL) not in known and path.exists():
            yield Problem(path, "a product without a receipt", place=path)
    covered = {v for (s, _), ids in found.videos.items() if s == "rank" for v in ids}
    covered.update(v for s, name in found.broken if s == "rank" for v in layout.get(name, ()))
    covered = set(map(stored_name, covered))
    for path in sorted(paths.masks.iterdir()) if paths.masks.is_dir() else []:
        if path.name not in covered | {"zarr.json"} and not path.name.endswith(PARTIAL_SUFFIX):
            yield Problem(path, "masks without a receipt of rank", place=path)
    root = paths.masks / "zarr.json"
    if ("merge", ALL) not in known and root.is_file():
        try:
            group_attributes(paths.masks)
        except StoreError as error:
            yield Problem(root, f"unreadable ({error.__cause__})", place=root)
    at_work = {place for place in student_folders(paths.folder) if lock_holder(place) is not None}
    for path in sorted(paths.folder.rglob(f"*{PARTIAL_SUFFIX}")):
        if not at_work.intersection(path.parents) and not _is_foreign(paths, path):
            yield Problem(path, "left behind by a writer that was ended", place=path)


def _foreign(paths: RunPaths) -> Iterator[Problem]:
    """What lies in the run's folder or its ledger and is no part of a run. Nothing says whose it
    is, so it is nothing to remove."""
    ledger = paths.folder / "ledger"
    for path in (*sorted(paths.folder.iterdir()), *sorted(ledger.iterdir())):
        if _is_foreign(paths, path):
            yield Problem(path, "not a part of a run; move it away")
    for stage in STAGES:
        folder = ledger / stage
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            plain = path.suffix == ".json" and path.is_file() and not path.name.startswith(".")
            if not plain and not path.name.endswith(PARTIAL_SUFFIX):
                yield Problem(path, "not a part of a run; move it away")


def _is_foreign(paths: RunPaths, path: Path) -> bool:
    """Whether something at the top of a run's folder, or of its ledger, is not the run's."""
    own = {
        paths.folder: OWN_NAMES,
        paths.folder / "ledger": {
            *("layout.json", "weights.json", "sources", OF_OBJECTS),
            *STAGES,
        },
    }.get(path.parent)
    return own is not None and not own & {path.name, name_of_partial(path)}


def _with_parents(folder: Path, names: Iterable[str]) -> set[Path]:
    """Files, and the folders in ``folder`` that they lie in."""
    found: set[Path] = set()
    for name in names:
        path = folder / name
        while path != folder and path not in found:
            found.add(path)
            path = path.parent
    return found


def _kind(path: Path) -> str:
    return "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a file"
