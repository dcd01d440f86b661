"""Readers of data sets, one per file. :func:`open_dataset` finds them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from pipeline.config import Links
from pipeline.errors import UnknownDatasetError
from pipeline.ports import DatasetReader

READERS = {
    "a2d": ("a2d", "A2DSentences"),
    "jhmdb": ("jhmdb", "JHMDBSentences"),
    "mevis": ("mevis", "MeViS"),
    "refdavis": ("refdavis", "open_refdavis"),
    "refytvos": ("refytvos", "RefYouTubeVOS"),
    "shapes": ("refytvos", "open_shapes"),
    "videos": ("videos", "Videos"),
    "visor": ("visor", "VISOR"),
}
"""Name -> module here and what in it opens a root and a split. Modules are imported when they are
needed, because each loads the libraries of its own files."""


def open_dataset(
    name: str,
    root: Path,
    split: str,
    links: Links = "follow",
    sampling: Mapping[str, float] | None = None,
) -> DatasetReader:
    """Returns the reader of a data set. Reads only its index.

    Args:
        name: one of :data:`READERS`.
        root: the data set's folder.
        split: such as ``train`` or ``valid``.
        links: ``follow`` links wherever they lead, or refuse those that do not stay ``inside``.
        sampling: of the data set ``videos``: ``frames_per_second`` and ``max_size``, if any.

    Raises:
        UnknownDatasetError: no reader has that name.
        InputError: the root or the split is missing, or its index is malformed.
    """
    if name not in READERS:
        raise UnknownDatasetError(
            name, "no such data set", f"one of {', '.join(sorted(READERS))}", "check --dataset"
        )
    module, opener = READERS[name]
    found = getattr(import_module(f"storage.datasets.{module}"), opener)
    chosen = sampling if name == "videos" else None
    return cast(Callable[..., DatasetReader], found)(Path(root), split, links, **(chosen or {}))
