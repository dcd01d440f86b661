"""Which videos each shard holds: ``ledger/layout.json``.

A shard, once cut, stays as it was cut, whatever the shard size of later runs. Where the file is
gone or damaged, receipts tell the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError, StoreError
from storage.files.names import safe_name
from storage.files.sealed_json import read_sealed, write_sealed
from storage.run.ledger import Ledger

logger = logging.getLogger(__name__)

FORMAT = "pseudolabels.layout"
FORMAT_VERSION = 1


class NewerLayoutError(StoreError):
    """A later release wrote the layout, which is not damaged."""


Layout = Mapping[str, tuple[str, ...]]
"""Shard -> ids of its videos."""


def layout_path(run_folder: Path) -> Path:
    """Where the layout of a run is."""
    return run_folder / "ledger" / "layout.json"


def write_layout(run_folder: Path, shards: Mapping[str, Sequence[str]]) -> None:
    """Writes the layout of a run over what was there. Raises StoreError if the disk is full."""
    write_sealed(
        layout_path(run_folder),
        {
            "format": FORMAT,
            "FORMAT_VERSION": FORMAT_VERSION,
            "shards": {name: list(videos) for name, videos in shards.items()},
        },
    )


def read_layout(run_folder: Path) -> Layout:
    """The layout of a run; empty where there is none.

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
            " makes it anew from the receipts"
        ) from error
    if version > FORMAT_VERSION:
        raise NewerLayoutError(
            f"{path}: version {version}; expected {FORMAT_VERSION} or earlier; use the release"
            " that wrote it"
        )
    return layout


def layout_of_receipts(ledger: Ledger, stages: Sequence[str]) -> Layout:
    """The layout that receipts tell of: what the first of the stages that has one says of a shard.

    A video that two shards claim goes to the first of them by name.
    """
    found: dict[str, tuple[str, ...]] = {}
    for stage in stages:
        for receipt in ledger.receipts(stage):
            found.setdefault(receipt.shard, receipt.videos)
    taken: set[str] = set()
    layout: dict[str, tuple[str, ...]] = {}
    for name in sorted(found):
        layout[name] = tuple(video for video in found[name] if video not in taken)
        taken.update(layout[name])
    return layout


def known_layout(run_folder: Path, stages: Sequence[str]) -> Layout:
    """The layout of a run by its file, or by its receipts where there is none that can be read.

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
