"""Pseudo-masks in the formats that trainers, viewers and servers read, one a file.

An export reads a mask store a frame at a time, so memory holds the masks of one frame; what it
writes appears whole or not at all. The WSRVOS augmentation file, which holds no masks, is written
by :mod:`storage.augmentation_file`.

Importing this package imports none of the formats, so that the command line can list them fast.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.exports.source import ExportReport, ExportSource

FORMATS = (
    "coco",
    "cvat",
    "fiftyone",
    "hf",
    "label-studio",
    "parquet",
    "submission",
    "video",
    "webdataset",
    "yolo",
    "ytvis",
    "ytvos",
)
"""The module ``storage.exports.NAME`` has the function ``export_NAME`` for each; dashes in a name
are underscores there."""

FOLDERS = frozenset(
    {"cvat", "fiftyone", "hf", "label-studio", "video", "webdataset", "yolo", "ytvos"}
)
"""The formats that are folders; the others are files."""


def exporter(name: str) -> Callable[[ExportSource, Path], ExportReport]:
    """Returns what writes one of :data:`FORMATS` to a path."""
    module_name = name.replace("-", "_")
    module = import_module(f"{__name__}.{module_name}")
    export: Callable[[ExportSource, Path], ExportReport] = getattr(module, f"export_{module_name}")
    return export
