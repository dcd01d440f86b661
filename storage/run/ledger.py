"""The ledger of a run: which stage is done on which shard.

A receipt is written last, and atomically. A product without one does not exist. A process that has
lost the lock of its run can neither write nor remove a receipt.

Of a run in an object store, the folder is a copy. A product and its receipt go to the store before
the receipt is written here, and a receipt is removed there first. So nothing here is ahead of the
store.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from pipeline.types import Failure, Receipt
from storage.files.names import safe_name
from storage.files.sealed_json import read_sealed, sealed_text, write_sealed
from storage.remote.mirror import mirror_of
from storage.run.lock import check_held

logger = logging.getLogger(__name__)

FAILURE = ".failed.json"
"""The end of the name of a note of a failure."""

Note = TypeVar("Note", Receipt, Failure)


class Ledger:
    """The receipts of a run, ``<run>/ledger/<stage>/<shard>.json``.

    Methods that change the ledger raise LockLostError in a process that has lost the lock.

    Args:
        run_folder: folder of the run, which need not exist.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder
        self._mirror = mirror_of(run_folder)
        self.folder = run_folder / "ledger"

    def receipt(self, stage: str, shard: str) -> Receipt | None:
        """Returns the receipt of a stage on a shard; None if there is no readable one."""
        return _read_if_there(self._path(stage, shard), Receipt)

    def commit(self, receipt: Receipt, places: Sequence[Path] = ()) -> None:
        """Writes a receipt, over an earlier one. Raises StoreError if the disk is full.

        Args:
            places: files and folders of the product, of which an object store keeps nothing else.
        """
        check_held(self._run_folder)
        if self._mirror is not None:
            before = self.receipt(receipt.stage, receipt.shard)
            known = {} if before is None else before.files
            new = {name for name, mark in receipt.files.items() if known.get(name) != mark}
            self._mirror.publish(new, receipt.files, places)
            # The upload can take longer than another run waits for a sign.
            check_held(self._run_folder)
        self._write(self._path(receipt.stage, receipt.shard), asdict(receipt))
        self.forget_failure(receipt.stage, receipt.shard)

    def withdraw(self, stage: str, shard: str) -> None:
        """Removes a receipt, if there is one. Call this before replacing its product."""
        check_held(self._run_folder)
        self._remove(self._path(stage, shard))

    def fail(self, failure: Failure) -> None:
        """Writes a note of a failure. A later :meth:`commit` removes it."""
        check_held(self._run_folder)
        self._write(self.failure_path(failure.stage, failure.shard), asdict(failure))

    def forget_failure(self, stage: str, shard: str) -> None:
        """Removes the note of a failure, if there is one."""
        self._remove(self.failure_path(stage, shard))

    def failure(self, stage: str, shard: str) -> Failure | None:
        """Returns the note of a failure; None if there is no readable one."""
        return _read_if_there(self.failure_path(stage, shard), Failure)

    def failures(self, stage: str) -> list[Failure]:
        """Returns all notes of failures of a stage, by shard."""
        paths = sorted((self.folder / stage).glob(f"*{FAILURE}"))
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
            if not path.name.startswith(".") and not path.name.endswith(FAILURE):
                yield path

    def failure_path(self, stage: str, shard: str) -> Path:
        """Returns the path of the note of a failure."""
        return self._path(stage, shard).with_suffix(FAILURE)

    def _write(self, path: Path, values: Mapping[str, Any]) -> None:
        if self._mirror is not None:
            self._mirror.objects.put(self._mirror.name(path), sealed_text(values).encode())
        write_sealed(path, values)

    def _remove(self, path: Path) -> None:
        if self._mirror is not None:
            self._mirror.objects.delete([self._mirror.name(path)])
        path.unlink(missing_ok=True)

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
    expected = (path.parent.name, path.name.removesuffix(FAILURE).removesuffix(".json"))
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
