"""The lock that keeps two runs out of one folder, on any file system.

Where the system can lock a file, it does, and gives the lock up when its holder ends, however it
ends. Some network file systems cannot; there a file that only one process can create stands for
the lock, its age shows that the holder lives, and a holder that is gone is no obstacle.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from pipeline.errors import RunLockedError
from storage.files.atomic import explain_disk_errors, partial_beside, replace_file

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 600.0
"""A holder on another machine that gave no sign for so long is taken for gone."""

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL})
"""What a file system answers that cannot lock."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    Attributes:
        process: its id.
        machine: its host name.
        identity: of the installation, where the system has one; host names may be equal.
        boot: of the machine's last start; "" where it is not known.
        started: when the process started, in the system's ticks; 0 where it is not known.
        token: of this very lock.
    """

    process: int
    machine: str
    identity: str
    boot: str
    started: int
    token: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(
            os.getpid(),
            socket.gethostname(),
            _text("/etc/machine-id"),
            _text("/proc/sys/kernel/random/boot_id"),
            _started(os.getpid()),
            uuid.uuid4().hex,
        )

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None where only its machine could say."""
        here = Owner.here()
        if (self.machine, self.identity) != (here.machine, here.identity):
            return None
        if self.boot != here.boot:
            return True if self.identity else None
        if not _is_alive(self.process):
            return True
        return bool(self.started) and _started(self.process) != self.started

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine}"


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
        self._owner = run_folder / ".lock.owner"
        self._lock = FileLock(run_folder / ".lock", timeout=0, fallback_to_soft=False)
        self._held: _HeldFile | None = None

    def __enter__(self) -> RunLock:
        with explain_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                raise _locked(self._folder, _read_owner(self._owner)) from error
            except (OSError, NotImplementedError) as error:
                if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                    raise
                self._hold_file(error)
        with replace_file(self._owner, "w") as file:
            json.dump(asdict(Owner.here()), file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._owner.unlink(missing_ok=True)
        if self._held is not None:
            self._held.release()
            self._held = None
        else:
            self._lock.release()

    def _hold_file(self, reason: Exception) -> None:
        self._held = _HeldFile(self._folder / ".lock.held")
        self._held.acquire()
        self._say(
            f"{self._folder}: this file system cannot lock files ({reason}); the file .lock.held"
            " keeps other runs out. After a crash on another machine it does so for"
            f" {STALE_SECONDS / 60:.0f} minutes more."
        )


class _HeldFile:
    """A file that exists while a process holds it, with a heartbeat."""

    def __init__(self, path: Path) -> None:
        self._path, self._me = path, Owner.here()
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Creates the file. Raises RunLockedError where a process that may live holds it."""
        for _ in range(3):
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._clear_stale()
                continue
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(self._me), file)
            threading.Thread(target=self._beat, name="run lock", daemon=True).start()
            return
        raise _locked(self._path.parent, _read_owner(self._path))

    def release(self) -> None:
        """Ends the heartbeat and removes the file, if it is still this process's."""
        self._ended.set()
        if _read_owner(self._path) == self._me:
            self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError as error:
                logger.warning("%s: no heartbeat (%s)", self._path, error)

    def _clear_stale(self) -> None:
        """Takes away the file of a holder that is gone. Raises RunLockedError where it is not."""
        owner = _read_owner(self._path)
        gone = owner.is_gone() if owner is not None else None
        if gone is None:
            gone = self._age() > STALE_SECONDS
        if not gone:
            raise _locked(self._path.parent, owner)
        aside = partial_beside(self._path)
        try:
            self._path.rename(aside)
            if _read_owner(aside) != owner:
                # Another run was quicker to find the stale file, and this one is its lock.
                os.link(aside, self._path)
        except (FileNotFoundError, FileExistsError):
            pass
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


def _locked(folder: Path, owner: Owner | None) -> RunLockedError:
    who = str(owner) if owner is not None else "its process is not known"
    return RunLockedError(
        f"{folder}: another run writes here ({who}); wait for it, end it, or give another OUT"
    )


def _read_owner(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _started(process: int) -> int:
    """When a process started, in clock ticks since the machine's start; 0 where it is unknown."""
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
