"""Readers of data sets, one per file. :func:`open_dataset` finds them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.config import Links
from pipeline.errors import UnknownDatasetError
from pipeline.ports import DatasetReader
from storage.datasets.a2d import A2DSentences
from storage.datasets.jhmdb import JHMDBSentences
from storage.datasets.mevis import MeViS
from storage.datasets.refdavis import open_refdavis
from storage.datasets.refytvos import RefYouTubeVOS
from storage.datasets.videos import Videos
from storage.datasets.visor import VISOR


def _open_shapes(root: Path, split: str, links: Links = "follow") -> DatasetReader:
    return RefYouTubeVOS(root, split, links, name="shapes")


READERS: dict[str, Callable[[Path, str, Links], DatasetReader]] = {
    "a2d": A2DSentences,
    "jhmdb": JHMDBSentences,
    "mevis": MeViS,
    "refdavis": open_refdavis,
    "refytvos": RefYouTubeVOS,
    "shapes": _open_shapes,
    "videos": Videos,
    "visor": VISOR,
}
"""Name -> what opens its root and split, with what to do about links."""


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
    if name == "videos":
        return Videos(Path(root), split, links, **(sampling or {}))
    return READERS[name](Path(root), split, links)
