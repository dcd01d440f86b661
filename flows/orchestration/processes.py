"""Looks at other processes of this machine, and asks them to end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

started: list[subprocess.Popen[bytes]] = []
"""Processes that this one started and leaves running."""


def is_alive(pid: int) -> bool:
    """Whether a process lives. One that this process started is reaped."""
    for process in started:
        if process.pid == pid:
            return process.poll() is None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_of(pid: int) -> str:
    """Returns the command line of a process; empty if there is no such process."""
    try:
        if Path("/proc/self").exists():
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            return words.replace(b"\0", b" ").decode(errors="replace").strip()
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def asked_to_end(pid: int) -> bool:
    """Asks a process to end. False if it is gone, or another user's."""
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True
