"""Reads and writes ``guarantee.parquet``: what is promised of every sample (``docs/format.md``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.files.atomic import replace_file
from storage.tables import WRITING, footer, open_table

GUARANTEE_SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("expression", pa.string()),
        ("signal", pa.float64()),
        ("predicted_j", pa.float64()),
        ("lower_j", pa.float64()),
        ("labelled", pa.bool_()),
    ]
)
"""One row per sample. ``lower_j`` is 0 where nothing is promised."""


@dataclass(frozen=True)
class GuaranteeTable:
    """What is promised of the samples of a run.

    Attributes:
        about: how it was made; see ``docs/format.md``.
        columns: name of a column of ``GUARANTEE_SCHEMA`` -> its values.
    """

    about: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]

    def promised(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Returns (video, expression) -> the expected J, and the J that is promised."""
        names = ("video", "expression", "predicted_j", "lower_j")
        rows = zip(*(self.columns[name] for name in names), strict=True)
        return {(video, expression): (j, lower) for video, expression, j, lower in rows}


def write_guarantee(path: Path, table: GuaranteeTable) -> None:
    """Writes the table, over an earlier one."""
    arrow = pa.Table.from_pydict(dict(table.columns), schema=GUARANTEE_SCHEMA)
    about = footer("guarantee", dict(table.about))
    with replace_file(path) as file:
        pq.write_table(arrow.replace_schema_metadata(about), file, **WRITING)


def read_guarantee(path: Path) -> GuaranteeTable:
    """Returns the table. Raises StoreError if it is missing, damaged or newer."""
    with open_table(path, "guarantee") as file:
        about = json.loads(file.metadata.metadata[b"pseudolabels.about"])
        return GuaranteeTable(about, file.read().to_pydict())
