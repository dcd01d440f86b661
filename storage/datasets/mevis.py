"""MeViS (Ding et al. 2023): expressions about motion, each of one object or several.

::

    <root>/<split>/meta_expressions.json        expressions with lists obj_id and anno_id
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

_MASKS_LAYOUT = "{anno_id: [COCO RLE or null, one a frame]}"
_MOST_MASK_BYTES = 1 << 33
"""The masks of split train are 443 thousand."""


class MeViS(IndexedReader):
    """Reader of MeViS. The target of an expression is the union of its annotations.

    ``mask_dict.json`` is read whole when the first truth is asked for, and kept.

    Args:
        root: the data set's folder.
        split: ``train``, ``valid_u`` or ``valid``; the last has no masks.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: the root or the split is missing, or its index is malformed.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        layout = f"the MeViS layout, <root>/<split>/{INDEX}"
        super().__init__("mevis", root, split, "{split}/" + INDEX, layout, links)
        self._masks_path = root / split / "mask_dict.json"
        self._masks: dict[str, Any] | None = None

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The masks of the annotations [n, H, W], empty where one is null; None without masks."""
        if not expression.object_ids or status(self._masks_path, _MASKS_LAYOUT) is None:
            return None
        size = (video.height, video.width)
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
