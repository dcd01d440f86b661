"""Looks at other processes of this machine, and asks them to end.

Functions import psutil, which most commands do not need.
"""

from __future__ import annotations

import subprocess

started: list[subprocess.Popen[bytes]] = []
"""Processes that this one started and leaves running."""


def is_alive(pid: int) -> bool:
    """Whether a process lives. One that this process started is reaped."""
    for process in started:
        if process.pid == pid:
            return process.poll() is None
    import psutil

    return bool(psutil.pid_exists(pid))


def command_of(pid: int) -> str:
    """Returns the command line of a process; empty if there is no such process."""
    import psutil

    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def asked_to_end(pid: int) -> bool:
    """Asks a process to end. False if it is gone, or another user's."""
    import psutil

    try:
        psutil.Process(pid).terminate()
    except psutil.Error:
        return False
    return True
