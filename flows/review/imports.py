"""Imports what models and tracks need in the background: it takes seconds, once."""

from __future__ import annotations

from importlib import import_module
from threading import Lock, Thread

_MODULES = ("stages.decided", "stages.segment.segmenter")


class Imports:
    """Imports PyTorch and what uses it. Two threads that do so at once can get half of a module."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._thread: Thread | None = None

    def start(self) -> Thread:
        """Begins, if nobody has."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=_import_all, daemon=True)
                self._thread.start()
            return self._thread

    def wait(self) -> None:
        """Returns when everything is imported."""
        self.start().join()


def _import_all() -> None:
    for name in _MODULES:
        import_module(name)
