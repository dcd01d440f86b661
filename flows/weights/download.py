"""Downloads one file: resumed after a cut, checked against its digest, put in place whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tenacity
from filelock import FileLock, Timeout

from flows.weights.request import (
    Downloads,
    PassingError,
    StoppedError,
    Wanted,
    discard,
    request,
    size_of,
    unreachable,
)
from pipeline.errors import CheckpointError
from pipeline.fingerprint import file_digest
from storage.files.atomic import explain_disk_errors, put_in_place

TRIES = 5
"""Attempts in a row that bring no new byte."""


def download(shared: Downloads, wanted: Wanted) -> None:
    """Downloads a file, if another process has not done so by then.

    Raises:
        CheckpointError: the server refuses, cannot be reached, or sends another file.
        NoRoomError: the file does not fit on the disk.
        StoppedError: the user ended it.
    """
    with explain_disk_errors(wanted.place):
        wanted.place.parent.mkdir(parents=True, exist_ok=True)
        with alone(shared, wanted.place):
            if wanted.place.is_file() and wanted.fits(file_digest(wanted.place)):
                shared.say(f"{wanted.place.name}: another process has fetched it")
                return
            _download(shared, wanted)


def _download(shared: Downloads, wanted: Wanted) -> None:
    for last in (False, True):
        resumed = wanted.received() > 0
        resumed |= _complete(shared, wanted) > 1
        found = file_digest(wanted.partial)
        if wanted.fits(found):
            put_in_place(wanted.partial, wanted.place)
            wanted.note.unlink(missing_ok=True)
            return
        shared.advance(-discard(wanted))
        # The first bytes may have been of another version of the file.
        if last or not resumed:
            expected = wanted.sha256 or f"{wanted.digest_start}…"
            raise CheckpointError(
                wanted.url,
                f"a file with sha256 {found}",
                f"sha256 {expected}",
                f"it was not put at {wanted.place}; try again, or use another mirror",
            )


def _complete(shared: Downloads, wanted: Wanted) -> int:
    """Fetches until the partial file has all bytes. Returns the number of attempts."""
    patience = _Patience(wanted.partial)
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, PassingError) and not shared.stop.is_set()
        ),
        stop=patience,
        wait=_pause,
        sleep=tenacity.sleep_using_event(shared.stop),
        reraise=True,
    )
    try:
        attempts(request, shared, wanted)
    except PassingError as error:
        if shared.stop.is_set():
            raise StoppedError from error
        if not error.connected:
            raise unreachable(wanted.url, error.found) from error
        raise CheckpointError(
            wanted.url,
            f"{error.found}, {TRIES} times in a row",
            "the whole file",
            f"try again later; the {size_of(wanted.partial):,} bytes that are there are kept",
        ) from error
    return int(attempts.statistics["attempt_number"])


class _Patience:
    """Says when to give up: after some attempts in a row that brought no new byte."""

    def __init__(self, partial: Path) -> None:
        self._partial, self._most, self._tries = partial, -1, 0

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        size = size_of(self._partial)
        if size > self._most:
            self._most, self._tries = size, 0
        self._tries += 1
        error = state.outcome.exception() if state.outcome else None
        # Without a network, waiting longer helps nobody.
        most = 2 if isinstance(error, PassingError) and not error.connected else TRIES
        return self._tries >= most


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, PassingError) and error.after is not None:
        return error.after
    return min(0.5 * 2.0 ** (state.attempt_number - 1), 20.0)


@contextmanager
def alone(shared: Downloads, place: Path) -> Iterator[None]:
    """Waits until no other process fetches a file or folder.

    Raises:
        StoppedError: the user did not want to wait.
    """
    lock = FileLock(place.with_name(f".{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        shared.say(f"{place.name}: another process fetches it; waiting")
        while not lock.is_locked:
            if shared.stop.is_set():
                raise StoppedError from None
            try:
                lock.acquire(timeout=0.5)
            except Timeout:
                continue
    try:
        yield
    finally:
        lock.release()
