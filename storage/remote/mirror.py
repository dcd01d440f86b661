"""A local folder that is a copy of what lies in an object store.

The store holds the truth. What is written goes to the store before, or right after, it is written
here; what is missing here is fetched. Files that change are known by the tags of their objects,
files of products by the marks in their receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from pipeline.errors import ObjectStoreError
from pipeline.store_urls import url_of
from storage.files.atomic import replace_file
from storage.files.checksums import mark_of, walk_files
from storage.files.sealed_json import read_sealed, write_sealed
from storage.remote.objects import Entry, Objects

THREADS = 16
"""Requests that are under way at once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Mirror:
    """A folder, and the address that it is a copy of.

    Args:
        folder: need not exist.
        url: of what lies in the folder.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder.absolute(), url
        # Beside the folder, so that they are in no product.
        self._tags = self.folder.with_name(f".{self.folder.name}.tags.json")
        self._lock = self.folder.with_name(f".{self.folder.name}.lock")
        self.objects = Objects(url)

    def name(self, path: Path) -> str:
        """Returns the name of a file's object."""
        return path.absolute().relative_to(self.folder).as_posix()

    def upload(self, path: Path) -> None:
        """Writes a file of the folder to the store."""
        self.objects.put(self.name(path), path)

    def publish(
        self, new: Collection[str], files: Collection[str], places: Iterable[Path] = ()
    ) -> None:
        """Uploads the files of a product, several at once, and then deletes whatever else lies in
        its places.

        Args:
            new: names of the files that the store lacks.
            files: names of all files of the product.
            places: files and folders of the product.
        """
        each(lambda name: self.objects.put(name, self.folder / name), sorted(new))
        self.objects.delete([name for name in self._there(places) if name not in files])

    def clear(self, places: Iterable[Path]) -> None:
        """Deletes the objects of files and folders."""
        self.objects.delete(list(self._there(places)))

    def _there(self, places: Iterable[Path]) -> Iterator[str]:
        """Yields the objects of files and folders, without the locks in them."""
        for place in places:
            name = self.name(place)
            below = [entry.name for entry in self.objects.walk(name) if not _is_hidden(entry.name)]
            if not below and self.has(place):
                below = [name]
            yield from below

    def has(self, path: Path) -> bool:
        """Whether the store has the object of a file."""
        try:
            self.objects.look(self.name(path))
        except FileNotFoundError:
            return False
        return True

    def fetch(self, files: Mapping[str, str]) -> int:
        """Downloads the files that are missing here, several at once. Returns their number.

        Args:
            files: name -> mark, as in receipts.

        Raises:
            ObjectStoreError: an object is missing, or is not what its receipt says.
        """
        missing = {name: mark for name, mark in files.items() if not self._is_here(name, mark)}
        each(lambda name: self._fetch(name, missing[name]), missing)
        return len(missing)

    def _is_here(self, name: str, mark: str) -> bool:
        try:
            return (self.folder / name).stat().st_size == int(mark.split()[0])
        except OSError:
            return False

    def _fetch(self, name: str, mark: str) -> None:
        place = f"{self.url}/{name}"
        remedy = "wait for a run that works on it, or remove the damage with `pseudolabels repair`"
        try:
            with replace_file(self.folder / name) as file:
                found = mark_of(_written(self.objects.chunks(name), file.write))
                if found != mark:
                    raise ObjectStoreError(
                        f"{place}: other bytes than its receipt says; expected {mark}; {remedy}"
                    )
        except FileNotFoundError as error:
            raise ObjectStoreError(f"{place}: missing; expected {mark}; {remedy}") from error

    def problem(self, name: str, mark: str) -> str | None:
        """Returns what is wrong with an object, in words; None if it is as its mark says."""
        try:
            found = mark_of(self.objects.chunks(name))
        except FileNotFoundError:
            return "missing"
        if found == mark:
            return None
        size, expected = found.split()[0], mark.split()[0]
        if size != expected:
            return f"{size} bytes; expected {expected}"
        return "other bytes than were written"

    def download(self, path: Path) -> None:
        """Fetches a file over the one that is here; keeps it if the store has none."""
        try:
            with replace_file(path) as file:
                for chunk in self.objects.chunks(self.name(path)):
                    file.write(chunk)
        except FileNotFoundError:
            return

    def push(self) -> None:
        """Writes all files of the folder to the store, and deletes what else lies there."""
        files = {self.name(path) for path in walk_files(self.folder)}
        files = {name for name in files if not _is_hidden(name)}
        each(lambda name: self.objects.put(name, self.folder / name), sorted(files))
        there = [entry.name for entry in self.objects.walk()]
        self.objects.delete([name for name in there if not _is_hidden(name) and name not in files])

    def pull(self) -> None:
        """Fetches all files that are another in the store, and removes those that it had once."""
        with self.syncing():
            known = self.known_tags()
            there = {e.name: e for e in self.objects.walk() if not _is_hidden(e.name)}
            for name in known.keys() - there.keys():
                (self.folder / name).unlink(missing_ok=True)
            each(lambda name: self.download(self.folder / name), self.changed(there, known))
            self.remember_tags({name: entry.version.tag for name, entry in there.items()})

    def changed(self, there: Mapping[str, Entry], known: Mapping[str, str]) -> list[str]:
        """Returns the names of objects that the folder has not, or not as they are now."""
        return [name for name, entry in there.items() if not self._has(entry, known)]

    def _has(self, entry: Entry, known: Mapping[str, str]) -> bool:
        path = self.folder / entry.name
        if not entry.version.tag or known.get(entry.name) != entry.version.tag:
            return False
        return path.is_file() and path.stat().st_size == entry.size

    @contextmanager
    def syncing(self) -> Iterator[None]:
        """Lets one process at a time bring the folder up to date."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            yield

    def known_tags(self) -> dict[str, str]:
        """Returns name -> tag, of the objects as they were when they were last fetched."""
        try:
            return dict(read_sealed(self._tags)["tags"])
        except (OSError, ValueError, KeyError):
            return {}

    def remember_tags(self, tags: Mapping[str, str]) -> None:
        """Stores the tags of the objects that the folder has."""
        write_sealed(self._tags, {"tags": dict(tags)})


def _is_hidden(name: str) -> bool:
    """Whether an object is of a lock, or is written at this moment."""
    return any(part.startswith(".") for part in name.split("/"))


def each(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """Does work on many items, several at once. Raises the first error, and leaves the rest."""
    for _ in spread(work, items):
        pass


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields the results of work on many items, in their order; several are done at once."""
    pool = ThreadPoolExecutor(THREADS, "object store")
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _written(chunks: Iterable[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    """Yields chunks after they are written."""
    for chunk in chunks:
        write(chunk)
        yield chunk


def mirror_of(folder: Path) -> Mirror | None:
    """Returns the mirror that a folder is; None for a folder that is no copy of a store's."""
    url = url_of(folder)
    return None if url is None else _mirror(folder.absolute(), url)


@lru_cache(maxsize=64)
def _mirror(folder: Path, url: str) -> Mirror:
    return Mirror(folder, url)
