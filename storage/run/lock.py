"""The lock that keeps two runs out of one folder, on any file system and in object stores.

The file ``.lock.held`` names the holder (:mod:`storage.run.held_file`). If the file system can lock
files, the holder also locks ``.lock``; the system releases that lock when its holder ends in any
way, so that nobody waits after a crash. The folder of a run in an object store is locked in the
same way, since processes of this machine share it, and the run itself by an object
(:mod:`storage.run.held_object`).

A holder without a heartbeat for too long loses its lock. :func:`check_held` raises when it wakes
up, before it writes a receipt over one of its successor.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pipeline.errors import LockLostError
from storage.files.atomic import explain_disk_errors
from storage.remote.mirror import mirror_of
from storage.run import held_file, held_object
from storage.run.held_file import (
    STALE_SECONDS,
    TOKENS_HERE,
    HeldFile,
    key_of,
    locked,
    owner_in,
    read_owner,
)
from storage.run.held_object import HeldObject
from storage.run.owner import Owner

logger = logging.getLogger(__name__)

HELD = ".lock.held"
LOCK_FILES = frozenset({".lock", HELD})
"""Names of the files of a lock."""

TOKENS = "PSEUDOLABELS_LOCKS"
"""The environment variable that tells the workers of a run the tokens of its locks."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""Errors of file systems that cannot lock files."""


class RunLock:
    """Keeps a second run out of a run's folder, and of its object store, while the block lasts.

    Args:
        run_folder: made if it is missing.
        say: told once where the file system cannot lock, and what is used in its place.

    Raises:
        RunLockedError: on entering, if another process holds the lock; its id and machine are
            named.
        ObjectStoreError: on entering, if the run is in a store that cannot be reached.
    """

    def __init__(self, run_folder: Path, say: Callable[[str], None] = logger.warning) -> None:
        self._folder, self._say = run_folder, say
        self._lock = FileLock(run_folder / ".lock", timeout=0, fallback_to_soft=False)
        self._held: HeldFile | None = None
        self._held_there: HeldObject | None = None

    def __enter__(self) -> RunLock:
        with explain_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            held, problem = self._folder / HELD, self._take_system_lock()
            self._held = HeldFile(held, locked=problem is None)
            try:
                self._held.acquire()
            except BaseException:
                self._lock.release()
                raise
        try:
            self._take_there()
        except BaseException:
            self._held.release()
            self._lock.release()
            raise
        if problem is not None:
            self._say(
                f"{self._folder}: this file system cannot lock files ({problem}); the file {HELD}"
                " keeps other runs out. After a crash on another machine it does so for"
                f" {STALE_SECONDS / 60:.0f} minutes more."
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._held_there is not None:
            self._held_there.release()
            self._held_there = None
        if self._held is not None:
            self._held.release()
        self._lock.release()

    def _take_system_lock(self) -> Exception | None:
        """Takes it; why not, where the file system cannot lock."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise locked(self._folder, read_owner(self._folder / HELD)) from error
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            return error
        return None

    def _take_there(self) -> None:
        """Takes the lock in the object store, if the run is in one."""
        mirror = mirror_of(self._folder)
        if mirror is None:
            return
        held = HeldObject(mirror.objects, held_file.HEARTBEAT_SECONDS)
        held.acquire()
        self._held_there = held


def lock_holder(run_folder: Path) -> str | None:
    """The process that writes to a run, in words; None where there is none.

    Nothing is written or locked: a run that starts at the same moment does not notice. The age of
    the lock of another machine is taken by this machine's clock.
    """
    found = _found(run_folder)
    if found is None:
        return None
    owner, age = found
    if held_file.has_ended(owner, age):
        return None
    return "a process that is not known" if owner is None else str(owner)


def was_left(run_folder: Path) -> bool:
    """Whether a process that wrote to a run was killed, and nobody has worked on the run since."""
    return _found(run_folder) is not None and lock_holder(run_folder) is None


def has_ended(owner: Owner, folder: Path) -> bool:
    """Whether a process that worked on a folder has ended, as far as this machine can know.

    A process of this machine is looked up. One of another machine has ended if the folder's lock
    names another process by now, or has had no heartbeat for :data:`STALE_SECONDS`.
    """
    gone = owner.is_gone()
    if gone is not None:
        return gone
    holder, age = _found(folder) or (None, 0.0)
    if holder is None:
        return False
    return not owner.is_same_process(holder) or age > STALE_SECONDS


def check_held(folder: Path) -> None:
    """Does nothing where this process, or the run that it works for, still holds the lock of a
    folder, or never took it.

    Raises:
        LockLostError: the lock is another's by now, or its file is gone.
        OSError: the file cannot be read for a reason that may pass.
        ObjectStoreError: the run is in a store that cannot be reached.
    """
    mirror = mirror_of(folder)
    key, name = (key_of(folder / HELD), HELD) if mirror is None else (mirror.url, held_object.NAME)
    token = _token(key)
    if token is None:
        return
    owner = owner_in(folder / HELD) if mirror is None else held_object.holder_of(mirror.objects)
    if owner is None or owner.token != token:
        who = f"{owner} holds it" if owner is not None else f"{name} is gone or damaged"
        place = folder if mirror is None else mirror.url
        raise LockLostError(
            f"{place}: this process lost the lock of the folder ({who}); expected to hold it to"
            f" the end; after {STALE_SECONDS / 60:.0f} minutes without a sign, as on a machine that"
            " slept, another may take it; see that the other has ended and run the same command"
            " again"
        )


def works_under_lock(folder: Path) -> bool:
    """Whether this process, or the run that it works for, took the lock of a folder."""
    mirror = mirror_of(folder)
    return _token(key_of(folder / HELD) if mirror is None else mirror.url) is not None


def is_kept_up(folder: Path) -> bool:
    """Whether a process on this disk works on a run in an object store, of which the folder is the
    local copy. The folder then has all that the store has of the run's ledger."""
    found = _found_here(folder)
    return found is not None and not held_file.has_ended(*found)


def held_tokens() -> str:
    """What a worker in another process needs in its environment, as :data:`TOKENS`, to work under
    the locks that this process holds."""
    return json.dumps(TOKENS_HERE)


def _token(key: str) -> str | None:
    """Returns the token of a lock that this process, or the run that it works for, took."""
    return TOKENS_HERE.get(key) or json.loads(os.environ.get(TOKENS, "{}")).get(key)


def _found(folder: Path) -> tuple[Owner | None, float] | None:
    """Returns the owner that a run's lock names, and the seconds since its last heartbeat; None if
    there is no lock."""
    mirror = mirror_of(folder)
    if mirror is None:
        return _found_here(folder)
    try:
        written = mirror.objects.look(held_object.NAME).modified.timestamp()
    except FileNotFoundError:
        return None
    return held_object.holder_of(mirror.objects), time.time() - written


def _found_here(folder: Path) -> tuple[Owner | None, float] | None:
    try:
        written = (folder / HELD).stat().st_mtime
    except OSError:
        return None
    return read_owner(folder / HELD), time.time() - written
