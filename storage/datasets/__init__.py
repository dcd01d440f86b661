"""Readers of data sets, one per file. :func:`open_dataset` finds them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from pipeline.config import Links
from pipeline.errors import UnknownDatasetError
from pipeline.ports import DatasetReader
from storage.datasets.base import MaskedReader
from storage.datasets.parts import BASE, part_of
from storage.remote.data_copy import DataCopy, copy_of

READERS = {
    "a2d": ("a2d", "A2DSentences"),
    "jhmdb": ("jhmdb", "JHMDBSentences"),
    "long_rvos": ("long_rvos", "LongRVOS"),
    "mevis": ("mevis", "open_mevis"),
    "mevis_v2": ("mevis", "open_mevis_v2"),
    "refcoco": ("refcoco", "open_refcoco"),
    "refcoco+": ("refcoco", "open_refcoco_plus"),
    "refcocog": ("refcoco", "open_refcocog"),
    "refcocog-google": ("refcoco", "open_refcocog_google"),
    "refdavis": ("refdavis", "open_refdavis"),
    "refytvos": ("refytvos", "RefYouTubeVOS"),
    "revos": ("revos", "ReVOS"),
    "shapes": ("refytvos", "open_shapes"),
    "videos": ("videos", "Videos"),
    "visor": ("visor", "VISOR"),
}
"""Name -> module here and what in it opens a root and a split. Modules are imported when they are
needed, because each loads the libraries of its own files."""

LOOKS_AT_FRAMES = frozenset({"videos", "visor"})
"""Data sets whose readers look at the files of all videos when they are opened."""


def open_dataset(
    name: str,
    root: Path,
    split: str,
    links: Links = "follow",
    sampling: Mapping[str, float] | None = None,
    copy: DataCopy | None = None,
) -> DatasetReader:
    """Returns the reader of a data set. Reads only its index, which is downloaded if the data set
    is in an object store.

    Args:
        name: one of :data:`READERS`.
        root: the data set's folder; for one in an object store, the folder that stands for its
            address (:func:`pipeline.store_urls.local_place`).
        split: such as ``train`` or ``valid``, or a part of ``train``
            (:mod:`storage.datasets.parts`).
        links: ``follow`` links wherever they lead, or refuse those that do not stay ``inside``.
        sampling: of the data set ``videos``: ``frames_per_second`` and ``max_size``, if any.
        copy: of the root; None lists the address, if it stands for one.

    Raises:
        UnknownDatasetError: no reader has that name.
        InputError: the root or the split is missing, or its index is malformed, or
            nothing is at the address.
        ObjectStoreError: the store refuses or cannot be reached.
    """
    if name not in READERS:
        raise UnknownDatasetError(
            name, "no such data set", f"one of {', '.join(sorted(READERS))}", "check --dataset"
        )
    copy = copy or copy_of(Path(root))
    if copy is not None:
        copy.fetch_index(whole=name in LOOKS_AT_FRAMES)
    module, opener = READERS[name]
    found = getattr(import_module(f"storage.datasets.{module}"), opener)
    chosen = sampling if name == "videos" else None
    part = part_of(split)
    opened = BASE if part else split
    reader = cast(Callable[..., MaskedReader], found)(Path(root), opened, links, **(chosen or {}))
    reader.copy = copy
    if part:
        part.narrow(reader)
    return reader
