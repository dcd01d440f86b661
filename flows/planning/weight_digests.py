"""Computes digests of checkpoints, and stores them for later runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.fingerprint import digest, file_digest
from storage.files.sealed_json import read_sealed, write_sealed


class WeightDigests:
    """Digests of checkpoints, stored by path, inode, size and times of their files.

    They are stored because reading a gigabyte takes seconds, and every run needs them.

    The change time (ctime) is included, so that a replaced file with the old modification time is
    noticed.

    Args:
        path: the JSON file that stores them. A missing or damaged file counts as empty.
        files: returns all files of a checkpoint on which its results depend.
        remember: store new digests; False writes nothing.
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
            # Without a valid checksum, compute all digests again.
            self._known = {}

    def of_checkpoint(self, checkpoint: str) -> str:
        """Returns the digest of a checkpoint. Raises CheckpointError if it has no files."""
        return digest([self.of_file(path) for path in self._files(checkpoint)])

    def of_file(self, path: Path) -> str:
        """Returns the SHA-256 of a file, and stores it. Raises OSError as ``open`` does."""
        key = _identity(path)
        if key not in self._known:
            self._known[key] = file_digest(path)
            if self._remember:
                write_sealed(self._path, self._known)
        return self._known[key]

    def peek(self, path: Path) -> str:
        """Returns the SHA-256 of a file. Writes nothing."""
        return self._known.get(_identity(path)) or file_digest(path)


def _identity(path: Path) -> str:
    status = path.stat()
    times = f"{status.st_mtime_ns}|{status.st_ctime_ns}"
    return f"{path.resolve()}|{status.st_ino}|{status.st_size}|{times}"
