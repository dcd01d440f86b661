"""The ledger: which stage is done on which shard, and the lock that keeps two runs apart.

A receipt is written last, whole and atomically; a product without one does not exist.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from pipeline.errors import RunLockedError
from pipeline.types import Receipt
from storage.atomic import explain_disk_errors, replace_file
from storage.names import safe_name

logger = logging.getLogger(__name__)


class Ledger:
    """The receipts of a run, ``<run>/ledger/<stage>/<shard>.json``.

    Args:
        run_folder: the run's folder; it need not exist yet.
    """

    def __init__(self, run_folder: Path) -> None:
        self.folder = run_folder / "ledger"

    def receipt(self, stage: str, shard: str) -> Receipt | None:
        """The receipt of a stage on a shard; None if there is none, or none that can be read."""
        return _read_receipt(self._path(stage, shard))

    def commit(self, receipt: Receipt) -> None:
        """Writes a receipt over whatever was there. Raises StoreError if the disk is full."""
        with replace_file(self._path(receipt.stage, receipt.shard), "w") as file:
            json.dump(asdict(receipt), file, indent=1, sort_keys=True, allow_nan=False)

    def withdraw(self, stage: str, shard: str) -> None:
        """Removes a receipt, if there is one; to be done before its product is replaced."""
        self._path(stage, shard).unlink(missing_ok=True)

    def is_done(self, stage: str, shard: str, fingerprint: str) -> bool:
        """Whether the stage has a receipt without an error and with this fingerprint."""
        receipt = self.receipt(stage, shard)
        return receipt is not None and receipt.error is None and receipt.fingerprint == fingerprint

    def receipts(self, stage: str) -> list[Receipt]:
        """All receipts of a stage, by shard."""
        paths = sorted((self.folder / stage).glob("*.json"))
        found = (_read_receipt(path) for path in paths if not path.name.startswith("."))
        return [receipt for receipt in found if receipt is not None]

    def _path(self, stage: str, shard: str) -> Path:
        safe_name(stage, self.folder, "stage name")
        safe_name(shard, self.folder, "shard name")
        return self.folder / stage / f"{shard}.json"


def _read_receipt(path: Path) -> Receipt | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Receipt(**{**values, "videos": tuple(values["videos"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Without a receipt the work is done again, which is always right.
        logger.warning("%s: no readable receipt (%s); its shard is done again", path, error)
        return None


class RunLock:
    """Keeps a second run out of a run's folder while the block lasts.

    The system gives the lock up when its holder ends, however it ends: a lock file that a killed
    run left behind is no obstacle.

    Args:
        run_folder: made if it is missing.

    Raises:
        RunLockedError: on entering, if another process holds the lock; its id and machine are
            named.
    """

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._owner = run_folder / ".lock.owner"
        self._lock = FileLock(run_folder / ".lock", timeout=0)

    def __enter__(self) -> RunLock:
        with explain_disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                raise RunLockedError(
                    f"{self._folder}: another run writes here ({self._holder()}); wait for it, end"
                    " it, or give another OUT"
                ) from error
        with replace_file(self._owner, "w") as file:
            json.dump({"process": os.getpid(), "machine": socket.gethostname()}, file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text(encoding="utf-8"))
            return f"process {owner['process']} on {owner['machine']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "its process is not known"
