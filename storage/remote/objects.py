"""The objects below one address of an object store, through obstore.

Credentials and endpoints come from the environment variables that the stores' own tools read, such
as ``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``. obstore repeats requests that fail for a reason
that may pass.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from pipeline.errors import ObjectStoreError

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutResult, UpdateVersion
    from obstore.store import AzureStore, GCSStore, RetryConfig, S3Store

    Store: TypeAlias = S3Store | GCSStore | AzureStore

CHUNK_BYTES = 1 << 20

RETRIES: RetryConfig = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL of another server than"
    " Amazon's",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Environment variables that say who asks, by scheme."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class ConflictError(Exception):
    """An object is not as a conditional write expects it."""


class Version(NamedTuple):
    """What a store tells the versions of an object apart by: its ETag, and the generation that
    Google's store counts."""

    tag: str
    generation: str | None = None


@dataclass(frozen=True)
class Entry:
    """An object in a listing.

    Attributes:
        name: its path below the address.
        size: bytes.
        version: of the object.
        modified: when it was written, by the store's clock.
    """

    name: str
    size: int
    version: Version
    modified: datetime


class Objects:
    """The objects below an address. Names are relative to it, with ``/`` between their parts.

    Every method raises ObjectStoreError if the store refuses or cannot be reached.

    Args:
        url: ``s3://bucket/prefix``, or the same with ``gs`` or ``az``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._scheme, self._prefix = parts.scheme, url.partition("://")[2].partition("/")[2]
        self._store = _open(parts.scheme, parts.netloc)

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """Yields all objects below a folder, by name."""
        with self._explained():
            for page in obstore.list(self._store, self._key(folder) or None):
                yield from map(self._entry, page)

    def level(self, folder: str = "") -> tuple[list[Entry], set[str]]:
        """Returns the objects right in a folder, and the names of the folders in it."""
        with self._explained():
            found = obstore.list_with_delimiter(self._store, self._key(folder) or None)
        folders = {path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]}
        return [self._entry(item) for item in found["objects"]], folders

    def look(self, name: str) -> Entry:
        """Returns what a listing says of an object. Raises FileNotFoundError if it is missing."""
        with self._explained(name):
            return self._entry(obstore.head(self._store, self._key(name)))

    def get(self, name: str) -> tuple[bytes, Version]:
        """Returns the content and the version of an object. Raises FileNotFoundError if it is
        missing."""
        with self._explained(name):
            found = obstore.get(self._store, self._key(name))
            return found.bytes().to_bytes(), _version(found.meta)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields the content of an object in pieces of about a mebibyte. Raises FileNotFoundError
        if it is missing."""
        with self._explained(name):
            found = obstore.get(self._store, self._key(name))
            for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def put(self, name: str, content: bytes | Path) -> None:
        """Writes an object, over an earlier one. Readers see the old or the new one, whole. A large
        file goes in parts."""
        with self._explained(name):
            obstore.put(self._store, self._key(name), content)

    def create(self, name: str, content: bytes) -> Version:
        """Writes an object that must not be there. Raises ConflictError if it is there."""
        with self._explained(name):
            try:
                return _version(obstore.put(self._store, self._key(name), content, mode="create"))
            except AlreadyExistsError as error:
                raise ConflictError(name) from error

    def update(self, name: str, content: bytes, version: Version) -> Version:
        """Writes an object over a version of it, and returns the new one. Raises ConflictError if
        the object is of another version, or gone."""
        with self._explained(name):
            mode: UpdateVersion = {"e_tag": version.tag}
            if version.generation is not None:
                mode["version"] = version.generation
            try:
                return _version(obstore.put(self._store, self._key(name), content, mode=mode))
            except (PreconditionError, FileNotFoundError) as error:
                raise ConflictError(name) from error

    def delete(self, names: Collection[str]) -> None:
        """Deletes objects. Those that are missing already are no error."""
        if not names:
            return
        with self._explained():
            try:
                obstore.delete(self._store, [self._key(name) for name in names])
            except FileNotFoundError:
                # Stores that are not S3 refuse the whole list for one of them.
                for name in names:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, self._key(name))

    def _key(self, name: str) -> str:
        return "/".join(filter(None, (self._prefix, name)))

    def _entry(self, item: ObjectMeta) -> Entry:
        key = item["path"]
        name = key[len(self._prefix) + 1 :] if self._prefix else key
        return Entry(name, item["size"], _version(item), item["last_modified"])

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        """Turns what obstore raises into an ObjectStoreError that says what to do."""
        place = f"{self.url}/{name}" if name else self.url
        if _USER[0] != os.getpid():
            raise ObjectStoreError(
                f"{place}: asked for by a forked process, in which the client would hang; expected"
                " a process of its own; start it with spawn, as a DataLoader does with"
                ' multiprocessing_context="spawn"'
            )
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise _no_bucket(place, self._scheme) from error
            raise FileNotFoundError(f"{place}: no such object") from error
        except BaseError as error:
            raise _in_words(place, self._scheme, error) from error


def _version(item: ObjectMeta | PutResult) -> Version:
    return Version(item["e_tag"] or "", item["version"])


def _no_bucket(place: str, scheme: str) -> ObjectStoreError:
    return ObjectStoreError(
        f"{place}: there is no such bucket; expected one that exists; make it, or check the address"
        f" and {_CREDENTIALS[scheme]}"
    )


def _in_words(place: str, scheme: str, error: BaseError) -> ObjectStoreError:
    said = str(error).partition("\n\nDebug source")[0]
    if "NoSuchBucket" in said:
        return _no_bucket(place, scheme)
    # A listing that is refused is a plain error of obstore. The address is asked for credentials.
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or any(
        words in said for words in ("status code: 401", "status code: 403", "169.254.169.254")
    )
    code = re.search("<Code>(.*?)</Code>", said)
    message = re.search("<Message>(.*?)</Message>", said)
    if code is not None:
        said = code[1] if message is None else f"{code[1]}: {message[1]}"
    said = " ".join(said.split()).rstrip(".")[:300]
    if refused:
        return ObjectStoreError(
            f"{place}: the store refuses access ({said}); expected credentials that may do"
            f" that; set {_CREDENTIALS[scheme]}"
        )
    return ObjectStoreError(
        f"{place}: the store does not answer as it should ({said}); expected one that can be"
        f" reached; check the network and {_CREDENTIALS[scheme]}, and run the same command again,"
        " finished work is kept"
    )


_USER: list[int] = []
"""The id of the process that opened a client first. obstore's threads are not in a fork of it."""


@lru_cache(maxsize=16)
def _open(scheme: str, bucket: str) -> Store:
    """Returns the client of a bucket. One is shared, because it keeps connections open."""
    _USER[:] = _USER or [os.getpid()]
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    try:
        store = from_url(
            f"{scheme}://{bucket}", client_options={"allow_http": plain}, retry_config=RETRIES
        )
    except BaseError as error:
        raise _in_words(f"{scheme}://{bucket}", scheme, error) from error
    return store  # type: ignore[return-value]  # by the scheme, it is one of the three
