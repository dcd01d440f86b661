"""Ref-YouTube-VOS (Seo et al. 2020), and every data set kept in its layout.

::

    <root>/meta_expressions/<split>/meta_expressions.json
    <root>/<split>/JPEGImages/<video>/<frame>.jpg
    <root>/<split>/Annotations/<video>/<frame>.png      palette, pixel value = object id; optional
    <root>/<split>/meta.json                            objects of each video; optional
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef
from storage.datasets.base import MaskedReader, palette_masks
from storage.datasets.frames import video_from_folder
from storage.datasets.sentences import checked_sentence, expression_order
from storage.json_files import list_at, object_at, read_json_object
from storage.names import safe_name

logger = logging.getLogger(__name__)

_INDEX = "meta_expressions.json"
_INDEX_LAYOUT = '{"videos": {id: {"expressions": {id: {"exp": text}}, "frames": [name]}}}'
_OBJECTS_LAYOUT = '{"videos": {id: {"objects": {id: {"category": text}}}}}'


class RefYouTubeVOS(MaskedReader):
    """Reader of the Ref-YouTube-VOS layout.

    Truth is read wherever ``Annotations`` has it, in any split. The published ``valid`` index has
    507 videos of which 202 are the split: the ids of the ``test`` index are left out, or, where
    that file is gone, the ids without frames under ``valid/JPEGImages``.

    Args:
        root: the data set's folder.
        split: ``train``, ``valid`` or ``test``.
        name: the data set's name in sample keys; the quirk of ``valid`` is that of ``refytvos``.

    Raises:
        InputError: the root or the split is missing, or its index is malformed.
    """

    def __init__(self, root: Path, split: str, name: str = "refytvos") -> None:
        super().__init__(name, root, split)
        safe_name(split, root, "split")
        self.index_path = root / "meta_expressions" / split / _INDEX
        self._folder = root / split
        self._frames = self._folder / "JPEGImages"
        self._annotations = self._folder / "Annotations"
        self._objects: dict[str, Any] | None = None
        if not self.index_path.is_file():
            self._raise_missing_split()
        self._videos = _videos(self.index_path, _INDEX_LAYOUT)
        self._ids = self._ids_of_split()

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""
        return self._ids

    def video(self, video_id: str) -> VideoRef:
        """The frames that the index lists. Raises InputError if any is missing or misshapen."""
        entry = self._entry(video_id)
        names = list_at(
            entry.get("frames"), self.index_path, f"frames of video {video_id}", _INDEX_LAYOUT
        )
        folder = self._frames / safe_name(video_id, self.index_path, "video id")
        return video_from_folder(video_id, folder, (self.root, self._frames), names)

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The expressions of a video, in the order of their ids.

        An expression whose ``obj_id`` is not among the objects of ``meta.json`` is kept without an
        object, hence without truth, and a warning is logged.

        Raises:
            InputError: the index is malformed here, or a sentence is empty or too long.
        """
        safe_name(video_id, self.index_path, "video id")
        entries = object_at(
            self._entry(video_id).get("expressions"),
            self.index_path,
            f"expressions of video {video_id}",
            _INDEX_LAYOUT,
        )
        return [
            self._expression(video_id, name, entries[name])
            for name in sorted(entries, key=expression_order)
        ]

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The masks of the objects [n, H, W]; None without an object or a mask file."""
        if not expression.object_ids:
            return None
        path = self._annotations / video.id / f"{video.frames[index]}.png"
        return palette_masks(path, expression.object_ids, (video.height, video.width))

    def _expression(self, video_id: str, name: str, value: object) -> Expression:
        what = f"expression {name} of video {video_id}"
        entry = object_at(value, self.index_path, what, _INDEX_LAYOUT)
        kind = entry.get("kind")
        if kind is not None and not isinstance(kind, str):
            raise InputError(
                self.index_path, f"kind of {what} is {kind!r}", "text or nothing", "mend it"
            )
        return Expression(
            key=SampleKey(
                self.name,
                self.split,
                video_id,
                safe_name(name, self.index_path, f"expression id of video {video_id}"),
            ),
            text=checked_sentence(entry.get("exp"), self.index_path, what),
            kind=kind,
            object_ids=self._object_ids(video_id, entry.get("obj_id"), what),
        )

    def _object_ids(self, video_id: str, value: object, what: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                self.index_path, f"obj_id of {what} is {value!r}", 'an id such as "1"', "mend it"
            )
        object_id = str(value)
        known = self._objects_of(video_id)
        if known is not None and object_id not in known:
            logger.warning(
                "%s: obj_id %s of %s is not in %s, which has %s; the expression is kept without"
                " truth; mend the obj_id to have it",
                self.index_path,
                object_id,
                what,
                self._folder / "meta.json",
                ", ".join(sorted(known)) or "no objects",
            )
            return ()
        return (object_id,)

    def _objects_of(self, video_id: str) -> set[str] | None:
        """Ids of the objects of a video; None where no ``meta.json`` says."""
        path = self._folder / "meta.json"
        if self._objects is None:
            self._objects = _videos(path, _OBJECTS_LAYOUT) if path.is_file() else {}
        if video_id not in self._objects:
            return None
        entry = object_at(self._objects[video_id], path, f"video {video_id}", _OBJECTS_LAYOUT)
        return set(object_at(entry.get("objects"), path, f"objects of {video_id}", _OBJECTS_LAYOUT))

    def _entry(self, video_id: str) -> dict[str, Any]:
        if video_id not in self._videos:
            raise InputError(
                self.index_path,
                f"no video {video_id!r}",
                f"one of the {len(self._ids)} videos of split {self.split}",
                "check the id",
            )
        return object_at(
            self._videos[video_id], self.index_path, f"video {video_id}", _INDEX_LAYOUT
        )

    def _ids_of_split(self) -> tuple[str, ...]:
        ids = set(self._videos)
        if self.name == "refytvos" and self.split == "valid":
            test_index = self.root / "meta_expressions" / "test" / _INDEX
            if test_index.is_file():
                ids -= set(_videos(test_index, _INDEX_LAYOUT))
            elif self._frames.is_dir():
                ids &= {folder.name for folder in self._frames.iterdir()}
            left_out = len(self._videos) - len(ids)
            if left_out:
                logger.info("%s: %d videos are not of split valid", self.index_path, left_out)
        return tuple(sorted(ids))

    def _raise_missing_split(self) -> None:
        indexes = self.root.glob(f"meta_expressions/*/{_INDEX}")
        splits = sorted(path.parent.name for path in indexes)
        found = f"no such file; splits found: {', '.join(splits) or 'none'}"
        raise InputError(
            self.index_path,
            found,
            "the Ref-YouTube-VOS layout, <root>/meta_expressions/<split>/meta_expressions.json",
            "check --root and --split",
        )


def _videos(path: Path, layout: str) -> dict[str, Any]:
    return object_at(read_json_object(path, layout).get("videos"), path, "videos", layout)
