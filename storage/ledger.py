"""The ledger: which stage is done on which shard.

A receipt is written last, whole and atomically; a product without one does not exist.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.types import Receipt
from storage.atomic import replace_file
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
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        # Without a receipt the work is done again, which is always right.
        logger.warning("%s: no readable receipt (%s); its shard is done again", path, error)
        return None
