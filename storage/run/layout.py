"""Reads and writes ``ledger/layout.json``: which videos each shard holds.

A shard stays as it was cut, even if later runs have another shard size. If the file is missing or
damaged, the receipts have the same information.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError, StoreError
from storage.files.names import safe_name
from storage.files.sealed_json import read_sealed, write_sealed
from storage.remote.mirror import mirror_of
from storage.run.ledger import Ledger
from storage.run.lock import check_held

logger = logging.getLogger(__name__)

FORMAT = "pseudolabels.layout"
FORMAT_VERSION = 1


class NewerLayoutError(StoreError):
    """The layout was written by a later release. It is not damaged."""


Layout = Mapping[str, tuple[str, ...]]
"""Shard -> ids of its videos."""


def layout_path(run_folder: Path) -> Path:
    """Returns the path of a run's layout."""
    return run_folder / "ledger" / "layout.json"


def write_layout(run_folder: Path, shards: Mapping[str, Sequence[str]]) -> None:
    """Writes the layout of a run, over an earlier one.

    Raises:
        StoreError: the disk is full.
        LockLostError: this process has lost the run's lock.
    """
    check_held(run_folder)
    path = layout_path(run_folder)
    write_sealed(
        path,
        {
            "format": FORMAT,
            "FORMAT_VERSION": FORMAT_VERSION,
            "shards": {name: list(videos) for name, videos in shards.items()},
        },
    )
    if (mirror := mirror_of(run_folder)) is not None:
        mirror.upload(path)


def read_layout(run_folder: Path) -> Layout:
    """Returns the layout of a run; empty if there is none.

    Raises:
        NewerLayoutError: the file is newer than this release.
        StoreError: it is damaged.
    """
    path = layout_path(run_folder)
    try:
        values = read_sealed(path)
        version, shards = values["FORMAT_VERSION"], dict(values["shards"])
        if values["format"] != FORMAT or not isinstance(version, int):
            raise ValueError(f"of format {values['format']}")
        layout = {safe_name(name, path, "shard name"): tuple(shards[name]) for name in shards}
        for video in (video for videos in layout.values() for video in videos):
            safe_name(video, path, "video id")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise StoreError(
            f"{path}: no readable layout ({error}); expected the videos of each shard; `repair`"
            " makes it again from the receipts"
        ) from error
    if version > FORMAT_VERSION:
        raise NewerLayoutError(
            f"{path}: version {version}; expected {FORMAT_VERSION} or earlier; use the release"
            " that wrote it"
        )
    return layout


def layout_of_receipts(ledger: Ledger, stages: Sequence[str]) -> Layout:
    """Returns the layout according to the receipts: for each shard, that of the first stage with
    one.

    If two shards claim a video, the first shard by name gets it.
    """
    found: dict[str, tuple[str, ...]] = {}
    for stage in stages:
        for receipt in ledger.each(stage):
            found.setdefault(receipt.shard, receipt.videos)
    taken: set[str] = set()
    layout: dict[str, tuple[str, ...]] = {}
    for name in sorted(found):
        layout[name] = tuple(video for video in found[name] if video not in taken)
        taken.update(layout[name])
    return layout


def known_layout(run_folder: Path, stages: Sequence[str]) -> Layout:
    """Returns the layout of a run from its file, or from its receipts if the file is unreadable.

    Raises:
        NewerLayoutError: the file is newer than this release.
    """
    try:
        layout = read_layout(run_folder)
    except NewerLayoutError:
        raise
    except StoreError as error:
        logger.warning("%s", error)
        layout = {}
    return layout or layout_of_receipts(Ledger(run_folder), stages)
