"""Ref-YouTube-VOS (Seo et al. 2020), and every data set kept in its layout.

::

    <root>/meta_expressions/<split>/meta_expressions.json
    <root>/<split>/JPEGImages/<video>/<frame>.jpg
    <root>/<split>/Annotations/<video>/<frame>.png      palette, pixel value = object id; optional
    <root>/<split>/meta.json                            objects of each video; optional

An expression whose entry names no ``obj_id`` may have masks of its own, as in a submission::

    <root>/<split>/Annotations/<video>/<expression>/<frame>.png     0 outside
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.file_names import composed
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets.base import annotated_size, index_mask, palette_masks, void_of
from storage.datasets.files import is_folder, names_in, status
from storage.datasets.meta_expressions import (
    INDEX,
    INDEX_LAYOUT,
    IndexedReader,
    read_videos,
)
from storage.files.json_files import object_at
from storage.files.listing import spelled
from storage.files.names import is_safe_name

logger = logging.getLogger(__name__)

_INDEX_PATH = "meta_expressions/{split}/" + INDEX
_OBJECTS_LAYOUT = '{"videos": {id: {"objects": {id: {"category": text}}}}}'


class RefYouTubeVOS(IndexedReader):
    """Reader of the Ref-YouTube-VOS layout.

    Truth is read wherever ``Annotations`` has it, in any split. The published ``valid`` index has
    507 videos of which 202 are the split: the ids of the ``test`` index are left out, or, where
    that file is gone, the ids that have neither frames nor masks under ``valid``.

    An expression whose ``obj_id`` is not among the objects of ``meta.json`` is kept without an
    object, hence without ground truth, and a warning is logged.

    Args:
        root: the data set's folder.
        split: ``train``, ``valid`` or ``test``.
        links: as of :class:`MaskedReader`.
        name: the data set's name in sample keys; the quirk of ``valid`` is that of ``refytvos``.

    Raises:
        InputError: the root or the split is missing, or its index is malformed.
    """

    def __init__(
        self, root: Path, split: str, links: Links = "follow", name: str = "refytvos"
    ) -> None:
        layout = f"the Ref-YouTube-VOS layout, <root>/meta_expressions/<split>/{INDEX}"
        super().__init__(name, root, split, _INDEX_PATH, layout, links)
        self._annotations = root / split / "Annotations"
        self._objects_path = root / split / "meta.json"
        self._objects: dict[str, Any] | None = None
        if name == "refytvos" and split == "valid":
            self._leave_out_test()

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The masks of the objects, or of an expression without one, [n, H, W]; None without a mask
        file."""
        folder, size = spelled(self._annotations, video.id), (video.height, video.width)
        if not expression.object_ids:
            own = self.checked(spelled(folder, expression.key.expression), self._annotations)
            mask = index_mask(self.mask_file(own, video.frames[index]), size)
            return None if mask is None else (mask > 0)[None]
        path = self.mask_file(folder, video.frames[index])
        return palette_masks(path, expression.object_ids, size)

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """The pixels [H, W] whose value is 255, of DAVIS in this layout; YouTube-VOS has none."""
        if self.name != "refdavis":
            return None
        path = self.mask_file(spelled(self._annotations, video.id), video.frames[index])
        return void_of(path, (video.height, video.width))

    def _truth_places(self, video_id: str) -> tuple[Path, ...]:
        return (self._annotations / video_id, *self._own_masks(video_id))

    def _annotated_size(self, video_id: str) -> tuple[int, int]:
        own = self._own_masks(video_id)
        return annotated_size(own[0] if own else spelled(self._annotations, video_id))

    def _own_masks(self, video_id: str) -> list[Path]:
        """The folders of masks that are of one expression each."""
        entries, folder = self._entry(video_id).get("expressions"), self._annotations / video_id
        of_objects = entries if isinstance(entries, dict) else {}
        places = [
            folder / name
            for name, entry in of_objects.items()
            if is_safe_name(name) and isinstance(entry, dict) and entry.get("obj_id") is None
        ]
        return [place for place in places if is_folder(place, "masks of an expression")]

    def _object_ids(self, video_id: str, entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
        value = entry.get("obj_id")
        if value is None:
            return ()
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                self.index_path, f"obj_id of {what} is {value!r}", 'an id such as "1"', "fix it"
            )
        object_id = str(value)
        known = self._objects_of(video_id)
        if known is not None and object_id not in known:
            logger.warning(
                "%s: obj_id %s of %s is not in %s, which has %s; the expression is kept without"
                " truth; fix the obj_id to have it",
                self.index_path,
                object_id,
                what,
                self._objects_path,
                ", ".join(sorted(known)) or "no objects",
            )
            return ()
        return (object_id,)

    def _objects_of(self, video_id: str) -> set[str] | None:
        """Ids of the objects of a video; None where no ``meta.json`` says."""
        path = self._objects_path
        if self._objects is None:
            there = status(path, _OBJECTS_LAYOUT) is not None
            self._objects = read_videos(self.checked(path), _OBJECTS_LAYOUT) if there else {}
        if video_id not in self._objects:
            return None
        entry = object_at(self._objects[video_id], path, f"video {video_id}", _OBJECTS_LAYOUT)
        return set(object_at(entry.get("objects"), path, f"objects of {video_id}", _OBJECTS_LAYOUT))

    def _leave_out_test(self) -> None:
        test_index = self.root / _INDEX_PATH.format(split="test")
        ids = set(self._ids)
        expected = "the folders of valid's videos"
        places = [self._frames, self._annotations]
        there = [place for place in places if status(place, expected) is not None]
        if status(test_index, INDEX_LAYOUT) is not None:
            ids -= set(read_videos(test_index, INDEX_LAYOUT))
        elif there:
            named = {composed(name) for place in there for name in names_in(place, expected)}
            ids = {name for name in ids if composed(name) in named}
        if len(ids) < len(self._ids):
            logger.info(
                "%s: %d videos are not of split valid", self.index_path, len(self._ids) - len(ids)
            )
        self._ids = tuple(sorted(ids))


def open_shapes(root: Path, split: str, links: Links = "follow") -> RefYouTubeVOS:
    """Returns a reader of ``shapes``, which is kept in this layout."""
    return RefYouTubeVOS(root, split, links, name="shapes")
