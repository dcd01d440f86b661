"""The local copy of a data set in an object store. The store is only read.

Opening the copy lists the address and makes the folders. Annotations are fetched then, because
readers look into them for the index; frames and pictures of masks when their video is asked for. A
log beside the copy says which version of an object each file is, so that a file is fetched again
only if its object is another one. A file whose object is gone is removed.
"""

from __future__ import annotations

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from pipeline.errors import InputError, ObjectStoreError
from pipeline.file_names import folded, is_foreign
from pipeline.fingerprint import digest
from pipeline.store_urls import url_of
from storage.files.atomic import explain_disk_errors, partials_in, remove_partials, replace_file
from storage.remote.mirror import spread
from storage.remote.objects import Entry, Objects

logger = logging.getLogger(__name__)

OF_INDEX = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".p", ".mat", ".h5")
"""Suffixes, in lower case, of the annotations that readers look into when they are opened."""

AT_ONCE = 512
"""Files that are asked for before the next ones are looked at."""

LOG_SECONDS = 10.0
"""Time between two lines about a long download."""


class Item(NamedTuple):
    """An object of the data set.

    Attributes:
        name: its path below the address.
        size: bytes.
        tag: differs between versions of the object.
    """

    name: str
    size: int
    tag: str


class DataCopy:
    """A data set's folder, and the address that it is a copy of. It pickles.

    Several threads and processes may fetch at once: one downloads, and the others wait.

    Args:
        folder: need not exist.
        url: of the data set.
        items: all objects below the address.
    """

    def __init__(self, folder: Path, url: str, items: Iterable[Item]) -> None:
        self.folder, self.url, self._log_path = folder.absolute(), url, _log_of(folder)
        self._items = {item.name: item for item in items}
        within: dict[str, list[Item]] = defaultdict(list)
        for item in self._items.values():
            within[item.name.rpartition("/")[0]].append(item)
        self._within: dict[str, list[Item]] = defaultdict(list)
        for name, found in within.items():
            self._within[_folded(name)] += found
        self._here: set[str] = set()
        self._read = self._files = self._bytes = self._waiting = 0
        self._told = time.monotonic()

    def make_folders(self) -> None:
        """Creates the folders of the data set, and removes files and folders that it has no more.
        Files that were not fetched from the store are left alone."""
        folders = folders_of(self._items)
        with self._syncing():
            known = self._read_log()
            gone = [n for n, tag in known.items() if n not in (self._items if tag else folders)]
            for place in (self.folder / name for name in sorted(gone, reverse=True)):
                if place.is_dir():
                    with suppress(OSError):  # Somebody else has put files there.
                        place.rmdir()
                else:
                    place.unlink(missing_ok=True)
            for name in sorted(folders):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._log((name, "") for name in sorted(folders - known.keys()))

    def fetch_index(self, whole: bool = False) -> None:
        """Downloads what a reader looks into when it is opened.

        Args:
            whole: everything, for a reader that looks at all files.

        Raises:
            ObjectStoreError: the store refuses or cannot be reached.
        """
        self._bring(self._index(whole))

    def index_to_fetch(self, whole: bool = False) -> int:
        """Returns how many bytes :meth:`fetch_index` would download."""
        return self._to_fetch(self._index(whole))

    def fetch(self, places: Iterable[Path]) -> None:
        """Downloads files, and the files right in folders, of which any may be here already.

        Raises:
            ObjectStoreError: the store refuses or cannot be reached.
        """
        self._bring(self._of(places))

    def has(self, places: Iterable[Path]) -> bool:
        """Whether :meth:`fetch` would download nothing."""
        return all(map(self._has, self._of(places)))

    def to_fetch(self, places: Iterable[Path]) -> int:
        """Returns how many bytes :meth:`fetch` would download."""
        return self._to_fetch(self._of(places))

    def signature(self, names: Sequence[str], places: Iterable[Path]) -> str:
        """Returns a digest of names, and of the names, sizes and tags of the objects of files and
        folders. It is the same on every machine."""
        found = [[list(item) for item in sorted(self._of([place]))] for place in places]
        return digest([list(names), found])

    def _index(self, whole: bool) -> list[Item]:
        items = self._items.values()
        return [item for item in items if whole or item.name.lower().endswith(OF_INDEX)]

    def _of(self, places: Iterable[Path]) -> list[Item]:
        """Returns the objects of files and folders, whose names may be spelled otherwise."""
        found: list[Item] = []
        for place in places:
            name = place.absolute().relative_to(self.folder).as_posix()
            below = self._within.get(_folded(name))
            if below is None and name in self._items:
                below = [self._items[name]]
            if below is None:
                near = self._within.get(_folded(name.rpartition("/")[0]), ())
                below = [item for item in near if _folded(item.name) == _folded(name)]
            found += below
        return found

    def _to_fetch(self, items: Iterable[Item]) -> int:
        return sum(item.size for item in items if not self._has(item))

    def _has(self, item: Item) -> bool:
        if item.name not in self._here:
            return False
        try:
            return (self.folder / item.name).stat().st_size == item.size
        except OSError:
            return False

    def _bring(self, items: Sequence[Item]) -> None:
        if all(map(self._has, items)):
            return
        with self._syncing():
            self._read_log()
            missing = [item for item in items if not self._has(item)]
            # What a killed process has left is of a file that is still missing.
            for folder in {(self.folder / item.name).parent for item in missing}:
                remove_partials(partials_in(folder))
            self._waiting = len(missing)
            for start in range(0, len(missing), AT_ONCE):
                for item in spread(self._download, missing[start : start + AT_ONCE]):
                    self._log([(item.name, item.tag)])
                    self._here.add(item.name)
                    self._tell(item)

    def _download(self, item: Item) -> Item:
        found = 0
        try:
            with replace_file(self.folder / item.name) as file:
                for chunk in Objects(self.url).chunks(item.name):
                    found += file.write(chunk)
                if found != item.size:
                    raise ObjectStoreError(
                        f"{self.url}/{item.name}: {found} bytes; expected {item.size}, as it was"
                        " listed; run the same command again when nobody writes to the data set"
                    )
        except FileNotFoundError as error:
            raise ObjectStoreError(
                f"{self.url}/{item.name}: gone since it was listed; expected a data set that nobody"
                " writes to; run the same command again"
            ) from error
        return item

    def _tell(self, item: Item) -> None:
        """Counts a file, and logs how far the download is if the last line is long ago."""
        self._files += 1
        self._bytes += item.size
        self._waiting -= 1
        if time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            done = f"{self._files:,} files, {self._bytes / 1e9:.2f} GB"
            more = f"; {self._waiting:,} files are waiting" if self._waiting else ""
            logger.info("Downloaded %s, from %s%s", done, self.url, more)

    def _log(self, lines: Iterable[tuple[str, str]]) -> None:
        path = self._log_path
        with explain_disk_errors(path), path.open("a", encoding="utf-8") as file:
            # Before each line, so that one which a killed process has cut spoils no other.
            file.writelines("\n" + json.dumps(line) for line in lines)

    def _read_log(self) -> Mapping[str, str]:
        """Reads what was fetched here since the last time. Returns name -> tag, which is empty for
        a folder. A line that a killed process has cut counts for nothing."""
        known = {}
        try:
            with self._log_path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    self._read += len(line)
                    try:
                        name, tag = json.loads(line)
                    except (ValueError, TypeError):
                        continue
                    known[name] = tag
                    item = self._items.get(name)
                    if item is not None:
                        (self._here.add if item.tag == tag else self._here.discard)(item.name)
        except FileNotFoundError:
            self._read = 0
        return known

    @contextmanager
    def _syncing(self) -> Iterator[None]:
        """Lets one thread of one process at a time write to the copy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            yield


def copy_of(root: Path) -> DataCopy | None:
    """Returns the local copy of a data set in an object store, up to date but for files that were
    not asked for; None for a data set in a folder. Lists the address.

    Args:
        root: the folder that stands for the address (:func:`pipeline.store_urls.local_place`).

    Raises:
        InputError: nothing is at the address.
        ObjectStoreError: the store refuses or cannot be reached.
    """
    url = url_of(root)
    if url is None:
        return None
    items = _listed(url)
    if not items:
        if not _log_of(root).exists() and root.is_dir() and any(root.iterdir()):
            # `shapes`, which was rendered into the copy of a run.
            return None
        raise InputError(
            url,
            "nothing is there",
            "the files of a data set",
            "check the address, or put the data set there with the tools of the store",
            missing=True,
        )
    copy = DataCopy(root, url, items)
    copy.make_folders()
    return copy


def _log_of(folder: Path) -> Path:
    # Beside the folder, so that it is no file of the data set.
    return folder.absolute().with_name(f".{folder.name}.fetched")


def _listed(url: str) -> list[Item]:
    """Returns the objects below an address that belong to a data set."""
    entries = {}
    for entry in Objects(url).walk():
        parts = entry.name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            logger.warning("%s/%s: not the name of a file; left out", url, entry.name)
        elif not any(map(is_foreign, parts)):
            entries[entry.name] = entry
    folders = folders_of(entries)
    # Consoles of stores make an empty object for a folder.
    return [_item(entry) for name, entry in entries.items() if entry.size or name not in folders]


def folders_of(names: Iterable[str]) -> set[str]:
    """Returns the names of all folders that files lie in."""
    found: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def _item(entry: Entry) -> Item:
    return Item(entry.name, entry.size, entry.version.tag or entry.modified.isoformat())


def _folded(name: str) -> str:
    return "/".join(map(folded, name.split("/")))
