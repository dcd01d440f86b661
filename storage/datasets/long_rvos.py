"""Long-RVOS (Liang et al. 2025): videos of a minute, with static, dynamic and hybrid expressions.

::

    <root>/<split>/meta_expressions.json                        expressions with obj_id and type
    <root>/<split>/JPEGImages/<video>/<frame>.jpg
    <root>/<split>/Annotations/<video>/<obj_id>/<frame>.png     0 outside; optional

A frame without a file in an object's folder does not show the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.types import Expression, FrameIndex, VideoRef
from storage.datasets.base import annotated_size, index_mask
from storage.datasets.files import is_folder, names_in
from storage.datasets.meta_expressions import INDEX, IndexedReader
from storage.files.listing import spelled
from storage.files.names import safe_name

_MASKS_LAYOUT = "masks in <video>/<obj_id>/<frame>.png"


class LongRVOS(IndexedReader):
    """Reader of Long-RVOS.

    Args:
        root: the data set's folder.
        split: ``train``, ``valid`` or ``test``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: the root or the split is missing, or its index is malformed.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        layout = f"the Long-RVOS layout, <root>/<split>/{INDEX}"
        super().__init__("long_rvos", root, split, "{split}/" + INDEX, layout, links)
        self._annotations = root / split / "Annotations"

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask of the object [1, H, W]; None where the video has no folder of masks.

        Raises:
            InputError: the video has masks, but no folder of this object's.
        """
        home = spelled(self._annotations, video.id)
        if not expression.object_ids or not is_folder(home, _MASKS_LAYOUT):
            return None
        (object_id,) = expression.object_ids
        folder = spelled(home, object_id)
        if not is_folder(folder, _MASKS_LAYOUT):
            found, remedy = "no such folder", "restore the folder"
            raise InputError(folder, found, _MASKS_LAYOUT, remedy, missing=True)
        for place in (home, folder):
            self.checked(place, self._annotations)
        path = self.checked(spelled(folder, f"{video.frames[index]}.png"), self._annotations)
        size = (video.height, video.width)
        mask = index_mask(path, size)
        return np.zeros((1, *size), np.bool_) if mask is None else (mask > 0)[None]

    def _truth_places(self, video_id: str) -> tuple[Path, ...]:
        names = {name for item in self.expressions(video_id) for name in item.object_ids}
        return tuple(self._annotations / video_id / name for name in sorted(names))

    def _annotated_size(self, video_id: str) -> tuple[int, int]:
        home = spelled(self._annotations, video_id)
        for name in names_in(home, _MASKS_LAYOUT):
            if is_folder(home / name, _MASKS_LAYOUT) and names_in(home / name, _MASKS_LAYOUT):
                return annotated_size(home / name)
        raise InputError(home, "no masks", _MASKS_LAYOUT, "restore the frames")

    def _object_ids(self, video_id: str, entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
        value = entry.get("obj_id")
        if value is None:
            return ()
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(
                self.index_path, f"obj_id of {what} is {value!r:.80}", 'an id such as "1"', "fix it"
            )
        return (safe_name(str(value), self.index_path, f"obj_id of {what}"),)

    def _kind(self, entry: Mapping[str, Any], what: str) -> str | None:
        return super()._kind({"kind": entry.get("type")}, what)
