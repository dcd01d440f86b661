"""Digests of the files of checkpoints, remembered from run to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.fingerprint import digest, file_digest
from storage.files.sealed_json import read_sealed, write_sealed


class WeightDigests:
    """Digests of checkpoints, remembered by path, number, size and times of their files: a gigabyte
    takes seconds to read, and every run asks for it.

    Of the times one is the system's own, of the last change of whatever kind: a copy that keeps
    the time of its original, as of a file put in another's place, is told apart.

    Args:
        path: the JSON file that remembers them; missing or broken reads as empty.
        files: all files of a checkpoint that its results follow from.
        remember: False writes nothing.
    """

    def __init__(
        self, path: Path, files: Callable[[str], Sequence[Path]], remember: bool = True
    ) -> None:
        self._path = path
        self._files = files
        self._remember = remember
        try:
            self._known: dict[str, str] = read_sealed(path)
        except (OSError, ValueError):
            # Digests that nothing vouches for are taken anew.
            self._known = {}

    def of_checkpoint(self, checkpoint: str) -> str:
        """Digest of a checkpoint. Raises CheckpointError where there are none."""
        return digest([self.of_file(path) for path in self._files(checkpoint)])

    def of_file(self, path: Path) -> str:
        """SHA-256 of a file, remembered. Raises OSError as ``open`` does."""
        key = _identity(path)
        if key not in self._known:
            self._known[key] = file_digest(path)
            if self._remember:
                write_sealed(self._path, self._known)
        return self._known[key]

    def peek(self, path: Path) -> str:
        """SHA-256 of a file; nothing is written."""
        return self._known.get(_identity(path)) or file_digest(path)


def _identity(path: Path) -> str:
    status = path.stat()
    times = f"{status.st_mtime_ns}|{status.st_ctime_ns}"
    return f"{path.resolve()}|{status.st_ino}|{status.st_size}|{times}"
