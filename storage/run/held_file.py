"""A file that exists while a process holds a folder, on any file system.

Only one process can create it, and its age shows whether the holder lives. Processes on file
systems without locks, on other machines and in other containers see the same file.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from pathlib import Path
from types import TracebackType

from pipeline.errors import RunLockedError
from storage.files.atomic import partial_beside
from storage.run.owner import Owner

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""A holder on another machine without a heartbeat for this time counts as gone."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
"""Errors of file systems without hard links."""

TOKENS_HERE: dict[str, str] = {}
"""Path of a lock's file, or address of its object -> token of the lock that this process holds."""


class HeldFile:
    """A file that exists while a process holds it, with a heartbeat.

    Args:
        path: of the file, in a folder that exists; its folder is what the holder writes to.
        locked: whether this process holds the system's lock of the folder.
    """

    def __init__(self, path: Path, locked: bool = False) -> None:
        self._path, self._me = path, Owner.here(locked)
        self._ended = threading.Event()

    def __enter__(self) -> HeldFile:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Creates the file. Raises RunLockedError where a process that may live holds it."""
        for _ in range(3):
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._clear_stale()
                continue
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(self._me.as_text())
            except OSError:
                # A file without a name in it, as on a full disk, would keep everyone out.
                self._path.unlink(missing_ok=True)
                raise
            TOKENS_HERE[key_of(self._path)] = self._me.token
            threading.Thread(target=self._beat, name="run lock", daemon=True).start()
            return
        raise locked(self._path.parent, read_owner(self._path))

    def release(self) -> None:
        """Ends the heartbeat and removes the file, if it is still this process's."""
        self._ended.set()
        if TOKENS_HERE.get(key_of(self._path)) == self._me.token:
            del TOKENS_HERE[key_of(self._path)]
        if read_owner(self._path) == self._me:
            self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if owner_in(self._path) != self._me:
                    # This process was silent for too long: the file is another's by now.
                    logger.warning("%s: the lock was lost", self._path)
                    return
                os.utime(self._path)
            except OSError as error:
                logger.warning("%s: no heartbeat (%s)", self._path, error)

    def _clear_stale(self) -> None:
        """Takes away the file of a holder that is gone. Raises RunLockedError where it is not."""
        owner = read_owner(self._path)
        # The system's lock has one holder: this process has it, so the one who had it is gone.
        gone = owner is not None and owner.locked and self._me.locked
        if not gone and not has_ended(owner, self._age()):
            raise locked(self._path.parent, owner)
        aside = partial_beside(self._path)
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return
        try:
            if read_owner(aside) != owner:
                # Another run was quicker to find the stale file, and this one is its lock.
                _give_back(aside, self._path)
        finally:
            aside.unlink(missing_ok=True)

    def _age(self) -> float:
        """Seconds since the last heartbeat, by the file system's own clock; 0 if it is gone."""
        probe = partial_beside(self._path)
        try:
            probe.touch()
            return probe.stat().st_mtime - self._path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)


def key_of(path: Path) -> str:
    """Returns the key of a lock's file in :data:`TOKENS_HERE`."""
    return str(path.absolute())


def has_ended(owner: Owner | None, age: float) -> bool:
    """Whether a holder has ended, as far as this machine can know.

    Args:
        age: seconds since its last heartbeat.
    """
    gone = owner.is_gone() if owner is not None else None
    return age > STALE_SECONDS if gone is None else gone


def _give_back(aside: Path, path: Path) -> None:
    """Puts a lock back that is another's, unless a third process has taken its place."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not path.exists():
            aside.rename(path)


def locked(place: Path | str, owner: Owner | None) -> RunLockedError:
    """Returns the error that a folder, or the run at an address, is another process's."""
    who = str(owner) if owner is not None else "its process is not known"
    return RunLockedError(
        f"{place}: another process writes here ({who}); expected none; wait for it, end it, or"
        " give another folder"
    )


def owner_in(path: Path) -> Owner | None:
    """Returns the owner that a file names; None where there is no such file, or it names none.

    Raises:
        OSError: it cannot be read for a reason that may pass.
    """
    try:
        return Owner.of_text(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def read_owner(path: Path) -> Owner | None:
    """Does what :func:`owner_in` does; None also for a file that cannot be read."""
    try:
        return owner_in(path)
    except OSError:
        return None
