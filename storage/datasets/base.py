"""Shared code of the readers: decodes frames; makes ground truth and boxes from objects' masks.

Letters: n objects of an expression, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.davis import VOID
from pipeline.errors import InputError
from pipeline.geometry import masks_to_boxes
from pipeline.ports import Image
from pipeline.types import Expression, FrameIndex, VideoRef, VideoSources
from storage.datasets.files import is_folder, names_in, status
from storage.datasets.numbers import is_number
from storage.files.images import image_size, read_image, read_mask
from storage.files.listing import spelled
from storage.files.names import check_inside
from storage.remote.data_copy import DataCopy


class MaskedReader(ABC):
    """A :class:`pipeline.ports.DatasetReader` whose annotation, if any, is masks of objects.

    Args:
        name: the data set's name in sample keys.
        root: its folder.
        split: such as ``train``.
        links: ``follow`` reads through links wherever they lead; ``inside`` refuses those that
            lead out of the data set, as one from a source that is not trusted may have them.

    Raises:
        InputError: the root is no folder, or lies in one that may not be entered.
    """

    in_order: bool = False
    copy: DataCopy | None = None
    """The local copy of a data set in an object store, which :func:`open_dataset` puts in."""

    _ids: tuple[str, ...]

    def __init__(self, name: str, root: Path, split: str, links: Links = "follow") -> None:
        expected = f"the root folder of data set {name}"
        if not is_folder(root, expected):
            missing = not root.exists()
            found = "no such folder" if missing else "not a folder"
            raise InputError(root, found, expected, "give its path to --root", missing=missing)
        self.name = name
        self.root = root
        self.split = split
        self.links = links

    def restrict(self, video_ids: Sequence[str], split: str) -> None:
        """Leaves some of the videos, sorted, as a split of another name."""
        self._ids, self.split = tuple(video_ids), split

    def within(self, *areas: Path) -> tuple[Path, ...] | None:
        """The folders in which links may end: the root, and layout folders that the user may have
        linked in as a whole; None for any."""
        return None if self.links == "follow" else (self.root, *areas)

    def checked(self, path: Path, *areas: Path) -> Path:
        """A path whose links, and those of its folder, may be followed.

        Raises:
            InputError: a link leads out of the data set, and ``links`` is ``inside``.
        """
        for place in (path.parent, path):
            check_inside(place, self.within(*areas))
        return path

    def video(self, video_id: str) -> VideoRef:
        """The frames of a video. Its files are downloaded if they are in an object store.

        Raises:
            InputError: a frame is missing.
            ObjectStoreError: the store refuses or cannot be reached.
        """
        self.fetch(video_id)
        return self._video(video_id)

    def annotated_video(self, video_id: str) -> VideoRef:
        """Returns a video as described by its ground truth. Opens no frame; frames may be missing.

        Raises:
            InputError: the ground truth says nothing of its frames or their size.
            ObjectStoreError: as :meth:`video`.
        """
        self.fetch(video_id)
        return self._annotated_video(video_id)

    def fetch(self, video_id: str) -> None:
        """Downloads the files of a video of an object store. Raises as :meth:`video`."""
        if self.copy is not None:
            sources = self.sources(video_id)
            self.copy.fetch((*sources.frames, *sources.truth))

    def _annotated_video(self, video_id: str) -> VideoRef:
        """As :meth:`annotated_video`, of files that are here."""
        raise InputError(
            self.root,
            f"no ground truth that tells the frames of {video_id}",
            "frames, or ground truth with their names and size",
            "restore the frames",
        )

    def mask_file(self, folder: Path, frame: str) -> Path:
        """The index mask of a frame in a video's folder, whether or not it is there. Raises as
        :meth:`checked`; the folder of all annotations may be linked in as a whole."""
        return self.checked(spelled(folder, f"{frame}.png"), folder.parent)

    @abstractmethod
    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""

    @abstractmethod
    def _video(self, video_id: str) -> VideoRef:
        """The frames of a video, whose files are here. Raises InputError if any is missing."""

    @abstractmethod
    def sources(self, video_id: str) -> VideoSources:
        """Where a video's files are. Opens none of them, and none need be there."""

    @abstractmethod
    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The expressions of a video, in the order of their ids."""

    @abstractmethod
    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """Returns the true masks [n, H, W] of an expression's objects; None without ground
        truth."""

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """One decoded frame. Raises InputError if it is broken or of another size."""
        return read_image(video.paths[index], (video.height, video.width))

    def truth(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The union of the objects' masks [H, W]; None where there is no ground truth."""
        masks = self.object_masks(video, expression, index)
        if masks is None:
            return None
        union: NDArray[np.bool_] = np.logical_or.reduce(masks, axis=0)
        return union

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """The pixels [H, W] that no figure counts; None for none."""
        return None

    def boxes(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.float32] | None:
        """The boxes of its objects' true masks."""
        masks = self.object_masks(video, expression, index)
        if masks is None:
            return None
        return masks_to_boxes(masks[masks.any(axis=(1, 2))])


def mask_names(folder: Path) -> list[str]:
    """The names of the index masks in a video's folder, in natural order.

    Raises:
        InputError: the folder is missing or may not be read, or has none.
    """
    expected = "a palette PNG a frame"
    names = [name for name in names_in(folder, expected) if name.lower().endswith(".png")]
    if not names:
        raise InputError(folder, "no masks", expected, "restore the folder", missing=True)
    return names


def annotated_size(folder: Path) -> tuple[int, int]:
    """H and W of the index masks in a video's folder. Raises InputError if it has none."""
    return image_size(folder / mask_names(folder)[0])


def palette_masks(
    path: Path, object_ids: Sequence[str], size: tuple[int, int]
) -> NDArray[np.bool_] | None:
    """The masks [n, H, W] of objects in an index mask; None if there is no such file.

    Args:
        path: the file.
        object_ids: numbers in 1..255.
        size: (H, W) of the frame.

    Raises:
        InputError: the file is broken or of another size, or an id is not a number in 1..255.
        OSError: the file cannot be read for a reason that may pass.
    """
    numbers: list[int] = []
    for object_id in object_ids:
        if not (is_number(object_id) and 1 <= int(object_id) <= 255):
            raise InputError(
                path, f"object id {object_id[:80]!r}", "a number in 1..255", "fix the expression"
            )
        numbers.append(int(object_id))
    ids = index_mask(path, size)
    if ids is None:
        return None
    return np.equal(ids[None], np.array(numbers, dtype=np.uint8)[:, None, None])


def void_of(path: Path, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """The pixels [H, W] of an index mask that hold DAVIS's value for void; None where none does, or
    there is no such file. Raises as :func:`palette_masks`."""
    ids = index_mask(path, size)
    void = None if ids is None else ids == VOID
    return void if void is not None and void.any() else None


def index_mask(path: Path, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """An index mask [H, W], not to be written to; None if there is no such file."""
    found = status(path, "an index mask")
    return None if found is None else _index_mask(path, size, found.st_mtime_ns)


@lru_cache(maxsize=16)
def _index_mask(path: Path, size: tuple[int, int], changed: int) -> NDArray[np.uint8]:
    """The expressions of a video ask for the same masks one after the other."""
    ids = read_mask(path, size)
    ids.setflags(write=False)
    return ids
