"""The lock that keeps two runs out of one folder, on any file system.

The file ``.lock.held`` names the holder. Only one process can create it, and its age shows whether
the holder lives. If the file system can lock files, the holder also locks ``.lock``; the system
releases that lock when its holder ends in any way, so that nobody waits after a crash. Processes on
file systems without locks, on other machines and in other containers see the same ``.lock.held``.

A holder without a heartbeat for too long loses its lock. :func:`check_held` raises when it wakes
up, before it writes a receipt over one of its successor.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pipeline.errors import LockLostError, RunLockedError
from storage.files.atomic import explain_disk_errors, partial_beside
from storage.run.owner import Owner

logger = logging.getLogger(__name__)

HELD = ".lock.held"
LOCK_FILES = frozenset({".lock", HELD})
"""Names of the files of a lock."""

TOKENS = "PSEUDOLABELS_LOCKS"
"""The environment variable that tells the workers of a run the tokens of its locks."""

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""A holder on another machine without a heartbeat for this time counts as gone."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""Errors of file systems that cannot lock files."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
"""Errors of file systems without hard links."""

_tokens: dict[str, str] = {}
"""Folder -> token of the lock that this process holds there."""


class RunLock:
    """Keeps a second run out of a run's folder while the block lasts.

    Args:
        run_folder: made if it is missing.
        say: told once where the file system cannot lock, and what is used in its place.

    Raises:
        RunLockedError: on entering, if another process holds the lock; its id and machine are
            named.
    """

    def __init__(self, run_folder: Path, say: Callable[[str], None] = logger.warning) -> None:
        self._folder, self._say = run_folder, say
        self._lock = FileLock(run_folder / ".lock", timeout=0, fallback_to_soft=False)
        self._held: HeldFile | None = None

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
        if self._held is not None:
            self._held.release()
        self._lock.release()

    def _take_system_lock(self) -> Exception | None:
        """Takes it; why not, where the file system cannot lock."""
        try:
            self._lock.acquire()
        except Timeout as error:
            raise _locked(self._folder, _read_owner(self._folder / HELD)) from error
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            return error
        return None


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
            _tokens[_key(self._path)] = self._me.token
            threading.Thread(target=self._beat, name="run lock", daemon=True).start()
            return
        raise _locked(self._path.parent, _read_owner(self._path))

    def release(self) -> None:
        """Ends the heartbeat and removes the file, if it is still this process's."""
        self._ended.set()
        if _tokens.get(_key(self._path)) == self._me.token:
            del _tokens[_key(self._path)]
        if _read_owner(self._path) == self._me:
            self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                if _owner_in(self._path) != self._me:
                    # This process was silent for too long: the file is another's by now.
                    logger.warning("%s: the lock was lost", self._path)
                    return
                os.utime(self._path)
            except OSError as error:
                logger.warning("%s: no heartbeat (%s)", self._path, error)

    def _clear_stale(self) -> None:
        """Takes away the file of a holder that is gone. Raises RunLockedError where it is not."""
        owner = _read_owner(self._path)
        # The system's lock has one holder: this process has it, so the one who had it is gone.
        gone = owner is not None and owner.locked and self._me.locked
        if not gone and not _has_ended(owner, self._age()):
            raise _locked(self._path.parent, owner)
        aside = partial_beside(self._path)
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return
        try:
            if _read_owner(aside) != owner:
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


def lock_holder(run_folder: Path) -> str | None:
    """The process that writes to a run, in words; None where there is none.

    Nothing is written or locked: a run that starts at the same moment does not notice. The age of
    the lock of another machine is taken by this machine's clock.
    """
    path = run_folder / HELD
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    owner = _read_owner(path)
    if _has_ended(owner, age):
        return None
    return "a process that is not known" if owner is None else str(owner)


def was_left(run_folder: Path) -> bool:
    """Whether a process that wrote to a run was killed, and nobody has worked on the run since."""
    return (run_folder / HELD).exists() and lock_holder(run_folder) is None


def has_ended(owner: Owner, folder: Path) -> bool:
    """Whether a process that worked on a folder has ended, as far as this machine can know.

    A process of this machine is looked up. One of another machine has ended if the folder's lock
    names another process by now, or has had no heartbeat for :data:`STALE_SECONDS`.
    """
    gone = owner.is_gone()
    if gone is not None:
        return gone
    path = folder / HELD
    holder = _read_owner(path)
    if holder is None:
        return False
    if not owner.is_same_process(holder):
        return True
    try:
        return time.time() - path.stat().st_mtime > STALE_SECONDS
    except OSError:
        return False


def check_held(folder: Path) -> None:
    """Does nothing where this process, or the run that it works for, still holds the lock of a
    folder, or never took it.

    Raises:
        LockLostError: the lock is another's by now, or its file is gone.
        OSError: the file cannot be read for a reason that may pass.
    """
    path = folder / HELD
    token = _tokens.get(_key(path)) or _tokens_of_environment().get(_key(path))
    if token is None:
        return
    owner = _owner_in(path)
    if owner is None or owner.token != token:
        who = f"{owner} holds it" if owner is not None else f"{HELD} is gone or damaged"
        raise LockLostError(
            f"{folder}: this process lost the lock of the folder ({who}); expected to hold it to"
            f" the end; after {STALE_SECONDS / 60:.0f} minutes without a sign, as on a machine that"
            " slept, another may take it; see that the other has ended and run the same command"
            " again"
        )


def works_under_lock(folder: Path) -> bool:
    """Whether this process, or the run that it works for, took the lock of a folder."""
    key = _key(folder / HELD)
    return key in _tokens or key in _tokens_of_environment()


def held_tokens() -> str:
    """What a worker in another process needs in its environment, as :data:`TOKENS`, to work under
    the locks that this process holds."""
    return json.dumps(_tokens)


def _tokens_of_environment() -> dict[str, str]:
    text = os.environ.get(TOKENS)
    return {} if text is None else json.loads(text)


def _key(path: Path) -> str:
    return str(path.absolute())


def _has_ended(owner: Owner | None, age: float) -> bool:
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


def _locked(folder: Path, owner: Owner | None) -> RunLockedError:
    who = str(owner) if owner is not None else "its process is not known"
    return RunLockedError(
        f"{folder}: another process writes here ({who}); expected none; wait for it, end it, or"
        " give another folder"
    )


def _owner_in(path: Path) -> Owner | None:
    """The owner that a file names; None where there is no such file, or it names none.

    Raises:
        OSError: it cannot be read for a reason that may pass.
    """
    try:
        return Owner.of_text(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _read_owner(path: Path) -> Owner | None:
    try:
        return _owner_in(path)
    except OSError:
        return None
