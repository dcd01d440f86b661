"""The ledger of a run: which stage is done on which shard.

A receipt is written last, and atomically. A product without one does not exist. A process that has
lost the lock of its run can neither write nor remove a receipt.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

from pipeline.types import Failure, Receipt
from storage.files.names import safe_name
from storage.files.sealed_json import read_sealed, write_sealed
from storage.run.lock import check_held

logger = logging.getLogger(__name__)

_FAILURE = ".failed.json"
Note = TypeVar("Note", Receipt, Failure)


class Ledger:
    """The receipts of a run, ``<run>/ledger/<stage>/<shard>.json``.

    Methods that change the ledger raise LockLostError in a process that has lost the lock.

    Args:
        run_folder: folder of the run, which need not exist.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self.folder = run_folder / "ledger"

    def receipt(self, stage: str, shard: str) -> Receipt | None:
        """Returns the receipt of a stage on a shard; None if there is no readable one."""
        return _read_if_there(self._path(stage, shard), Receipt)

    def commit(self, receipt: Receipt) -> None:
        """Writes a receipt, over an earlier one. Raises StoreError if the disk is full."""
        check_held(self._run_folder)
        write_sealed(self._path(receipt.stage, receipt.shard), asdict(receipt))
        self.failure_path(receipt.stage, receipt.shard).unlink(missing_ok=True)

    def withdraw(self, stage: str, shard: str) -> None:
        """Removes a receipt, if there is one. Call this before replacing its product."""
        check_held(self._run_folder)
        self._path(stage, shard).unlink(missing_ok=True)

    def fail(self, failure: Failure) -> None:
        """Writes a note of a failure. A later :meth:`commit` removes it."""
        check_held(self._run_folder)
        write_sealed(self.failure_path(failure.stage, failure.shard), asdict(failure))

    def failure(self, stage: str, shard: str) -> Failure | None:
        """Returns the note of a failure; None if there is no readable one."""
        return _read_if_there(self.failure_path(stage, shard), Failure)

    def failures(self, stage: str) -> list[Failure]:
        """Returns all notes of failures of a stage, by shard."""
        paths = sorted((self.folder / stage).glob(f"*{_FAILURE}"))
        found = (_read_if_there(path, Failure) for path in paths if not path.name.startswith("."))
        return [failure for failure in found if failure is not None]

    def is_done(self, stage: str, shard: str, fingerprint: str) -> bool:
        """Whether the stage has a receipt with this fingerprint."""
        receipt = self.receipt(stage, shard)
        return receipt is not None and receipt.fingerprint == fingerprint

    def receipts(self, stage: str) -> list[Receipt]:
        """Returns all receipts of a stage, by shard."""
        found = (_read_if_there(path, Receipt) for path in self.receipt_paths(stage))
        return [receipt for receipt in found if receipt is not None]

    def each(self, stage: str) -> Iterator[Receipt]:
        """Yields the receipts of a stage, by shard, without their lists of files, which are most of
        a ledger."""
        for path in self.receipt_paths(stage):
            receipt = _read_if_there(path, Receipt)
            if receipt is not None:
                yield replace(receipt, files={})

    def receipt_paths(self, stage: str) -> Iterator[Path]:
        """Yields the paths of a stage's receipts, readable or not, by shard."""
        for path in sorted((self.folder / stage).glob("*.json")):
            if not path.name.startswith(".") and not path.name.endswith(_FAILURE):
                yield path

    def failure_path(self, stage: str, shard: str) -> Path:
        """Returns the path of the note of a failure."""
        return self._path(stage, shard).with_suffix(_FAILURE)

    def _path(self, stage: str, shard: str) -> Path:
        safe_name(stage, self.folder, "stage name")
        safe_name(shard, self.folder, "shard name")
        return self.folder / stage / f"{shard}.json"


def read_receipt(path: Path) -> Receipt:
    """Returns the receipt in a file.

    Raises:
        OSError: as ``open`` does.
        ValueError: it is not a receipt, or it is damaged.
    """
    return _read(path, Receipt)


def read_failure(path: Path) -> Failure:
    """Returns the note of a failure in a file. Raises as :func:`read_receipt`."""
    return _read(path, Failure)


def _read(path: Path, kind: type[Note]) -> Note:
    values = read_sealed(path)
    names = {field.name for field in fields(kind)}
    try:
        if "videos" in names:
            values = {**values, "videos": tuple(values["videos"])}
        note = kind(**{name: value for name, value in values.items() if name in names})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a {kind.__name__.lower()} ({error})") from error
    expected = (path.parent.name, path.name.removesuffix(_FAILURE).removesuffix(".json"))
    if (note.stage, note.shard) != expected:
        raise ValueError(f"of {note.stage} {note.shard}, and lies at {'/'.join(expected)}")
    return note


def _read_if_there(path: Path, kind: type[Note]) -> Note | None:
    try:
        return _read(path, kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        # Without a receipt the work is done again, which is always safe.
        logger.warning("%s: no readable receipt (%s); its shard is done again", path, error)
        return None
