"""MeViS (Ding et al. 2023; version 2, 2025): expressions about motion, each of one object, several
or, in version 2, none.

::

    <root>/<split>/meta_expressions.json        expressions with lists obj_id and anno_id
    <root>/<split>/meta_expressions_v2.json     the same of version 2; of the split valid
                                                also meta_expressions_v2_release.json
    <root>/<split>/JPEGImages/<video>/<frame>.jpg
    <root>/<split>/mask_dict.json               {anno_id: [COCO RLE or null, one a frame]}; optional
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coco import decode_rle
from pipeline.config import Links
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets.files import status
from storage.datasets.meta_expressions import INDEX, IndexedReader
from storage.files.json_files import list_at, read_json_object
from storage.files.names import safe_name

_MASKS_LAYOUT = "{anno_id: [COCO RLE or null, one a frame]}"
_MOST_MASK_BYTES = 1 << 33
"""The masks of split train are 443 thousand."""

V2_INDICES = ("meta_expressions_v2.json", "meta_expressions_v2_release.json")
"""Names of an index of version 2; the second is that of the split without masks."""


class MaskDictReader(IndexedReader):
    """A reader whose masks are in one ``mask_dict.json``, by annotation.

    The target of an expression is the union of its annotations. An empty list of annotations says
    that there is no target. The file of the masks is read whole when the first truth is asked for,
    and kept.

    Args:
        name, root, split, index_path, layout, links, frames: as of :class:`IndexedReader`.
        masks: the file of the masks, as ``index_path``.

    Raises:
        InputError: the root or the split is missing, or its index is malformed.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        split: str,
        index_path: str,
        layout: str,
        links: Links,
        frames: str = "{split}/JPEGImages",
        masks: str = "{split}/mask_dict.json",
    ) -> None:
        super().__init__(name, root, split, index_path, layout, links, frames)
        self._masks_path = root / masks.format(split=split)
        self._masks: dict[str, Any] | None = None

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The masks of the annotations [n, H, W], empty where one is null; n is 0 without a
        target. None without masks."""
        if status(self._masks_path, _MASKS_LAYOUT) is None:
            return None
        size = (video.height, video.width)
        if not expression.object_ids:
            return np.zeros((0, *size), dtype=np.bool_) if expression.no_target else None
        return np.stack([self._mask(name, index, size) for name in expression.object_ids])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_masks": None}

    def _truth_places(self, video_id: str) -> tuple[Path, ...]:
        return (self._masks_path,)

    def _annotated_size(self, video_id: str) -> tuple[int, int]:
        names = [name for item in self.expressions(video_id) for name in item.object_ids]
        for name in names:
            for rle in self._rles(name):
                if rle is not None:
                    return self._decoded(rle, f"annotation {name}").shape
        raise InputError(
            self._masks_path, f"no mask of video {video_id}", _MASKS_LAYOUT, "restore the frames"
        )

    def _object_ids(self, video_id: str, entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
        if entry.get("anno_id") is None:
            return ()
        names = list_at(entry["anno_id"], self.index_path, f"anno_id of {what}", _MASKS_LAYOUT)
        return tuple(str(name) for name in names)

    def _no_target(self, entry: Mapping[str, Any]) -> bool:
        return bool(entry.get("anno_id") == [])

    def _mask(self, name: str, index: FrameIndex, size: tuple[int, int]) -> NDArray[np.bool_]:
        what = f"annotation {name}"
        frames = self._rles(name)
        # A list shorter than the video says nothing of the frames past its end but that the
        # annotators found the object in none.
        rle = frames[index] if index < len(frames) else None
        if rle is None:
            return np.zeros(size, dtype=np.bool_)
        mask = self._decoded(rle, f"frame {index} of {what}")
        if mask.shape != size:
            raise InputError(
                self._masks_path,
                f"frame {index} of {what} is {mask.shape[0]} x {mask.shape[1]} pixels",
                f"{size[0]} x {size[1]}, as the frame",
                "restore the file",
            )
        return mask

    def _rles(self, name: str) -> list[Any]:
        """The RLE, or null, of each listed frame."""
        if self._masks is None:
            path = self.checked(self._masks_path)
            self._masks = read_json_object(path, _MASKS_LAYOUT, _MOST_MASK_BYTES)
        found = self._masks.get(name)
        return list_at(found, self._masks_path, f"annotation {name}", _MASKS_LAYOUT)

    def _decoded(self, rle: Any, what: str) -> NDArray[np.bool_]:
        try:
            return decode_rle(rle)
        except PseudoLabelError as error:
            raise InputError(
                self._masks_path, f"{what}: {error}", _MASKS_LAYOUT, "restore the file"
            ) from error


def open_mevis(root: Path, split: str, links: Links = "follow") -> MaskDictReader:
    """Returns a reader of MeViS, version 1: ``train``, ``valid_u``, or ``valid`` without masks.
    Arguments and errors as of :class:`MaskDictReader`."""
    layout = f"the MeViS layout, <root>/<split>/{INDEX}"
    return MaskDictReader("mevis", root, split, "{split}/" + INDEX, layout, links)


def open_mevis_v2(root: Path, split: str, links: Links = "follow") -> MaskDictReader:
    """Returns a reader of MeViS, version 2, whose frames and masks are those of version 1.
    Arguments and errors as of :class:`MaskDictReader`."""
    layout = f"the layout of MeViS, version 2, <root>/<split>/{' or '.join(V2_INDICES)}"
    safe_name(split, root, "split")
    there = (name for name in V2_INDICES if status(root / split / name, layout) is not None)
    index = next(there, V2_INDICES[0])
    return MaskDictReader("mevis_v2", root, split, "{split}/" + index, layout, links)
