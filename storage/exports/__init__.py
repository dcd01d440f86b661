"""Pseudo-masks in the formats that trainers, viewers and servers read, one a file.

An export reads a mask store a frame at a time, so memory holds the masks of one frame; what it
writes appears whole or not at all. The WSRVOS augmentation file, which holds no masks, is written
by :mod:`storage.augmentation_file`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.exports.coco import export_coco
from storage.exports.fiftyone import export_fiftyone
from storage.exports.parquet import export_parquet
from storage.exports.source import ExportReport, ExportSource
from storage.exports.submission import export_submission
from storage.exports.ytvos import export_ytvos

EXPORTS: dict[str, Callable[[ExportSource, Path], ExportReport]] = {
    "coco": export_coco,
    "fiftyone": export_fiftyone,
    "parquet": export_parquet,
    "submission": export_submission,
    "ytvos": export_ytvos,
}
"""Format -> what writes it to a path: a folder for ``fiftyone`` and ``ytvos``, else a file."""

FOLDERS = frozenset({"fiftyone", "ytvos"})
"""The formats that are folders."""

__all__ = ["EXPORTS", "FOLDERS", "ExportReport", "ExportSource"]
