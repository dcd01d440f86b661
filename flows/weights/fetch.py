"""Fetches the weights that a configuration names, several at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

import httpx

from flows.progress import Reporter
from flows.weights.download import download
from flows.weights.hub import HubFolder, ask_hub, fetch_folder, partial_folder, size_of_folder
from flows.weights.needs import Need
from flows.weights.published import Published, did_you_mean
from flows.weights.request import (
    Downloads,
    StoppedError,
    UnreachableError,
    Wanted,
    no_room,
    open_client,
    size_at,
)
from pipeline.errors import CheckpointError, NoRoomError, PseudoLabelError

AT_ONCE = 4
"""Downloads at the same time."""

MIRROR = "PSEUDOLABELS_MIRROR"
"""Environment variable: base address of a server that has the plain files under their own names."""

_MB = 1e6


@dataclass(frozen=True)
class Planned:
    """Weights that will be fetched.

    Attributes:
        need: what for, and where they belong.
        item: what is published.
        size: bytes; None if the server does not say.
        folder: the files of a folder on Hugging Face; None for a plain file.
    """

    need: Need
    item: Published
    size: int | None
    folder: HubFolder | None = None

    @property
    def wanted(self) -> Wanted:
        """The plain file."""
        url = address(self.item)
        return Wanted(url, self.need.path, self.item.sha256, self.item.digest_start)

    @property
    def received(self) -> int:
        """Bytes that an earlier fetch left."""
        if self.folder is not None:
            return size_of_folder(partial_folder(self.need))
        return self.wanted.received()


@dataclass
class _Tally:
    """Bytes that arrive in several threads, for one progress bar in MB."""

    progress: Reporter
    lock: Lock = field(default_factory=Lock)

    def advance(self, count: int) -> None:
        with self.lock:
            self.progress.advance(count / _MB)

    def say(self, text: str) -> None:
        with self.lock:
            self.progress.say(text)


def address(item: Published) -> str:
    """Returns where a plain file is fetched from: the mirror, if one is set."""
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    return f"{mirror}/{item.file}" if mirror else item.source


def plan_fetch(needs: Sequence[Need]) -> list[Planned]:
    """Returns what has to be fetched. Asks the servers for the sizes that are not known.

    Raises:
        CheckpointError: a need is not published, or a server refuses or cannot be reached.
    """
    items = [_published(need) for need in needs]
    with open_client() as client, ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(partial(_plan, client), needs, items))


def fetch(plan: Sequence[Planned], progress: Reporter) -> None:
    """Downloads what is planned. What a cut leaves is resumed by the next call.

    Raises:
        NoRoomError: the disk is too small; nothing was downloaded.
        CheckpointError: a server refuses, cannot be reached, or sends another file.
        PseudoLabelError: several downloads failed.
    """
    _check_room(plan)
    tally = _Tally(progress)
    total = round(sum(item.size or 0 for item in plan) / _MB, 1)
    progress.begin("fetch", total, "MB")
    progress.done_before(sum(item.received for item in plan) / _MB)
    with open_client() as client:
        shared = Downloads(client, tally.advance, tally.say)
        failed = _fetch_all(plan, shared)
    raise_first(failed)
    progress.end()


def raise_first(failed: Sequence[Exception]) -> None:
    """Raises one error for all that failed; a network that is down is said once."""
    if not failed:
        return
    unreached = [error for error in failed if isinstance(error, UnreachableError)]
    others = [error for error in failed if not isinstance(error, UnreachableError)]
    told = [*others, *unreached[:1]]
    if len(told) == 1:
        raise told[0]
    raise PseudoLabelError("; and ".join(map(str, told)))


def _fetch_all(plan: Sequence[Planned], shared: Downloads) -> list[Exception]:
    """Returns the errors. An interrupt stops all downloads."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(_fetch_one, item, shared) for item in plan]
        try:
            return [error for future in futures if (error := _error_of(future)) is not None]
        except BaseException:
            shared.stop.set()
            raise


def _error_of(future: Future[None]) -> Exception | None:
    error = future.exception()
    if isinstance(error, StoppedError):
        return None
    if error is None or isinstance(error, (PseudoLabelError, OSError)):
        return error
    raise error


def _fetch_one(item: Planned, shared: Downloads) -> None:
    try:
        if item.folder is not None:
            fetch_folder(shared, item.need, item.folder)
        else:
            download(shared, item.wanted)
    except UnreachableError:
        # The others cannot be reached either.
        shared.stop.set()
        raise
    shared.say(f"{item.need.path}: fetched")


def _plan(client: httpx.Client, need: Need, item: Published) -> Planned:
    if item.repository is not None:
        folder = ask_hub(need)
        return Planned(need, item, folder.size, folder)
    return Planned(need, item, item.size or size_at(client, address(item)))


def _published(need: Need) -> Published:
    if need.item is None:
        raise CheckpointError(
            need.path,
            "missing, and not one of the published weights that this project knows",
            "a file or folder of a published name",
            "check the path in the configuration, or put the weights there yourself"
            + did_you_mean(need.path.name),
        )
    return need.item


def _check_room(plan: Sequence[Planned]) -> None:
    """Raises NoRoomError if a disk has no room for all that goes on it."""
    wanted: dict[Path, int] = {}
    for item in plan:
        folder = item.need.path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        wanted[folder] = wanted.get(folder, 0) + max(0, (item.size or 0) - item.received)
    for folder, size in wanted.items():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise NoRoomError(no_room(folder, size, free))
