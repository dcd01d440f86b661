"""Names a process of any machine, and knows whether it has ended."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

_OUTSIDE_CONTAINERS = "pid:[4026531836]"
"""Linux's first namespace of process ids, which has this number on every machine."""


@dataclass(frozen=True)
class Owner:
    """A process, such as one that holds a lock.

    Attributes:
        process: its id.
        machine: its host name.
        identity: of the installation, where the system has one; host names may be equal.
        boot: of the machine's last start; "" where it is not known.
        started: when the process started, in the system's ticks; 0 where it is not known.
        token: of this very lock.
        container: the namespace that the process's id belongs to; "" where it is not known. Two
            containers of one machine may have equal names and ids.
        locked: whether it holds the system's lock too.
    """

    process: int
    machine: str
    identity: str
    boot: str
    started: int
    token: str
    container: str = ""
    locked: bool = False

    @classmethod
    def here(cls, locked: bool = False) -> Owner:
        """This process."""
        return cls(
            os.getpid(),
            socket.gethostname(),
            _text("/etc/machine-id"),
            _text("/proc/sys/kernel/random/boot_id"),
            _started(os.getpid()),
            uuid.uuid4().hex,
            _container(),
            locked,
        )

    @classmethod
    def of_text(cls, text: str) -> Owner:
        """The owner that :meth:`as_text` wrote. Raises ValueError if the text is not one."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"not the owner of a lock: {error}") from error

    def as_text(self) -> str:
        """Returns one line of JSON."""
        return json.dumps(asdict(self))

    def is_same_process(self, other: Owner) -> bool:
        """Whether both are the same process, whatever its locks are."""
        return self._process == other._process

    @property
    def _process(self) -> tuple[object, ...]:
        place = (self.machine, self.identity, self.boot, self.container)
        return (*place, self.process, self.started)

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None if it is in another machine or container."""
        here = Owner.here()
        if (self.machine, self.identity, self.container) != (
            here.machine,
            here.identity,
            here.container,
        ):
            return None
        if self.boot != here.boot:
            # Containers on two machines can have equal names, and equal identities too.
            certain = self.identity and self.container == _OUTSIDE_CONTAINERS
            return True if certain else None
        if not _exists(self.process):
            return True
        return bool(self.started) and _started(self.process) != self.started

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine}"


def _exists(process: int) -> bool:
    # Import it here, because most commands ask for no process.
    import psutil

    try:
        return bool(psutil.pid_exists(process))
    except OverflowError:
        # A lock file can hold any number.
        return False


def _container() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _started(process: int) -> int:
    """When a process started, in clock ticks since the machine's start; 0 where it is unknown.

    The times of psutil are of the wall clock, which can be set while a run goes on.
    """
    fields = _text(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0
