"""ReVOS (Yan et al. 2024): expressions that name their target, that take reasoning to find it, or
that have none.

::

    <root>/meta_expressions_<split>_.json       expressions with lists obj_id and anno_id, type_id
    <root>/JPEGImages/<video>/<frame>.jpg       of all splits; <video> has slashes in it
    <root>/mask_dict.json                       {anno_id: [COCO RLE or null, one a frame]}; optional

The videos come from several data sets, and their names are paths, such as ``UVO/all/x``. A video's
id here has ``--`` for each slash.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Links
from pipeline.errors import InputError
from storage.datasets.mevis import MaskDictReader
from storage.files.names import safe_name

KINDS = {0: "referring", 1: "reasoning", 2: "no target"}
"""type_id -> kind of an expression."""

_TYPES = ", ".join(f"{number} ({kind})" for number, kind in KINDS.items())


class ReVOS(MaskDictReader):
    """Reader of ReVOS.

    Args:
        root: the data set's folder.
        split: ``train`` or ``valid``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: the root or the split is missing, its index is malformed, or two of its videos
            would have one id.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        super().__init__(
            "revos",
            root,
            split,
            "meta_expressions_{split}_.json",
            "the ReVOS layout, <root>/meta_expressions_<split>_.json",
            links,
            frames="JPEGImages",
            masks="mask_dict.json",
        )
        self._places: dict[str, str] = {}
        for name in self._videos:
            other = self._places.setdefault(name.replace("/", "--"), name)
            if other != name:
                raise InputError(
                    self.index_path,
                    f"videos {other!r:.80} and {name!r:.80}, which have one id here",
                    "names that differ when -- stands for /",
                    "take one of them out of the index",
                )
        self._videos = {video: self._videos[name] for video, name in self._places.items()}
        self._ids = tuple(sorted(self._videos))

    def _place(self, video_id: str) -> str:
        self._entry(video_id)
        place = self._places[video_id]
        for part in place.split("/"):
            safe_name(part, self.index_path, f"part of video {video_id}")
        return place

    def _kind(self, entry: Mapping[str, Any], what: str) -> str | None:
        number = entry.get("type_id")
        if number is None:
            return None
        if not isinstance(number, int) or number not in KINDS:
            raise InputError(
                self.index_path, f"type_id of {what} is {number!r:.80}", _TYPES, "fix it"
            )
        return KINDS[number]
