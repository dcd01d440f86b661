"""Reads and writes mask stores: ``pseudomasks.zarr``, and the student's predictions.

One group per video: ``masks`` bool [E, T, H, W], ``weight`` float32 [E, T], ``status`` uint8 [E,
T]. One shard per expression and one chunk of packed bits per frame, so that a clip is read alone.
Letters: E expressions, T frames, H W pixels.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.types import PseudoMask, VideoRef
from storage.arrays.mask_shards import codecs_of, read_shard, write_shard
from storage.arrays.zarr_arrays import (
    array_document,
    document_bytes,
    group_document,
    is_stored_as,
    open_array,
    read_document,
    write_array,
    write_document,
)
from storage.arrays.zarr_groups import (
    check_kind,
    child_names,
    create_group,
    explain_damage,
    group_attributes,
    open_group,
    read_array,
)
from storage.files.atomic import explain_disk_errors, fresh_folder, replace_file
from storage.files.names import is_safe_name, published_name, safe_name, stored_name

if TYPE_CHECKING:
    import zarr

FORMAT = "pseudolabels.masks"
FORMAT_VERSION = 1

_OPEN_VIDEOS = 16


class MaskStore:
    """Masks on disk, written one video at a time and read one clip at a time.

    Two processes can write different videos at once. A video appears whole, by a rename, and
    replaces an earlier one. Opening reads nothing; a store that does not exist is empty. Instances
    can be pickled, so that each worker of a data loader can have one.

    Args:
        path: the store's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: LRUCache[str, _OpenVideo] = LRUCache(_OPEN_VIDEOS)

    def write_video(
        self, video: VideoRef, texts: Sequence[str], masks: Sequence[PseudoMask]
    ) -> None:
        """Writes all masks of a video.

        Args:
            video: whose frames the masks are of.
            texts: the E sentences, in the order of the masks.
            masks: E pseudo-masks [T, H, W] with T, H, W the video's; E may be 0.

        Raises:
            ValueError: a mask is of another shape, or two are of one expression.
            StoreError: no space is left, or the folder may not be written to.
        """
        safe_name(video.id, self.path, "video id")
        expressions = [safe_name(m.key.expression, self.path, "expression id") for m in masks]
        shape = (len(video), video.height, video.width)
        if len(texts) != len(masks) or len(set(expressions)) != len(masks):
            raise ValueError(f"{video.id}: {len(texts)} texts for expressions {expressions}")
        for item in masks:
            if item.mask.shape != shape:
                raise ValueError(f"{item.key}: mask {item.mask.shape}; expected {shape}")
        self.ensure_root()
        self._open.pop(video.id, None)
        attributes = {
            "format": FORMAT,
            "FORMAT_VERSION": FORMAT_VERSION,
            "frames": list(video.frames),
            "expressions": expressions,
            "texts": list(texts),
            "size": [video.height, video.width],
            "fingerprints": [item.fingerprint for item in masks],
        }
        place = self.place(video.id)
        with explain_disk_errors(place), fresh_folder(place, flush=True) as folder:
            create_group(folder, attributes)
            weight = np.zeros((len(masks), len(video)), dtype=np.float32)
            status = np.zeros((len(masks), len(video)), dtype=np.uint8)
            write_document(folder / "masks", _masks_document(len(masks), *shape))
            for row, item in enumerate(masks):
                weight[row], status[row] = item.weight, item.status
                write_shard(_shard(folder, row), item.mask)
            write_array(folder / "weight", weight)
            write_array(folder / "status", status)

    def read(
        self, video_id: str, expression_id: str, frames: Sequence[int] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.uint8]]:
        """Returns the masks of some frames, in the order of ``frames``.

        Args:
            video_id: a video of the store.
            expression_id: one of its expressions.
            frames: positions in the video's frames; None for all.

        Returns:
            mask bool [T, H, W], weight float32 [T], status uint8 [T]. A frame that was never
            written is unknown: all False, weight 0, status 0.

        Raises:
            StoreError: the video or expression is not there, or its arrays are damaged.
        """
        video = self._video(video_id)
        row = video.row(expression_id, self.place(video_id))
        count = len(video.attributes["frames"])
        positions = range(count) if frames is None else [int(frame) for frame in frames]
        for frame in positions:
            if not 0 <= frame < count:
                raise IndexError(f"{video_id}: frame {frame} of {count}")
        place = f"{self.place(video_id)}/masks[{row}]"
        with explain_damage(place):
            mask = video.read(_shard(self.place(video_id), row), row, positions)
        chosen = list(positions)
        return mask, video.weight[row, chosen], video.status[row, chosen]

    def quality(
        self, video_id: str, expression_id: str
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Returns weight [T] and status [T] of all frames. Reads no mask. Raises StoreError."""
        video = self._video(video_id)
        row = video.row(expression_id, self.place(video_id))
        return video.weight[row], video.status[row]

    def videos(self) -> list[str]:
        """Returns the ids of the videos, sorted."""
        return sorted(map(published_name, child_names(self.path)))

    def place(self, video_id: str) -> Path:
        """Returns the folder of a video, which need not exist."""
        return self.path / stored_name(video_id)

    def samples(self) -> Iterator[tuple[str, str]]:
        """Yields (video, expression) pairs: videos sorted, expressions in the order written."""
        for video_id in self.videos():
            for expression in self.expressions(video_id):
                yield video_id, expression

    def frames(self, video_id: str) -> tuple[str, ...]:
        """Returns the frame names of a video, in order."""
        return tuple(self._attributes(video_id)["frames"])

    def expressions(self, video_id: str) -> tuple[str, ...]:
        """Returns the expression ids of a video, in the order written."""
        return tuple(self._attributes(video_id)["expressions"])

    def texts(self, video_id: str) -> tuple[str, ...]:
        """Returns the sentence of each expression of a video."""
        return tuple(self._attributes(video_id)["texts"])

    def fingerprints(self, video_id: str) -> tuple[str, ...]:
        """Returns the fingerprint of each expression's masks."""
        return tuple(self._attributes(video_id)["fingerprints"])

    def size(self, video_id: str) -> tuple[int, int]:
        """Returns (H, W) of a video's masks."""
        height, width = self._attributes(video_id)["size"]
        return int(height), int(width)

    def __contains__(self, video_id: str) -> bool:
        return (self.place(video_id) / "zarr.json").is_file()

    def remove_video(self, video_id: str) -> None:
        """Removes a video, if it exists."""
        self._open.pop(video_id, None)
        if not is_safe_name(video_id):
            return
        shutil.rmtree(self.place(video_id), ignore_errors=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_open": LRUCache(_OPEN_VIDEOS)}

    def _attributes(self, video_id: str) -> dict[str, Any]:
        if video_id not in self:
            raise StoreError(
                f"{self.path}: no video {video_id}; expected its masks; run rank again"
            )
        place = self.place(video_id)
        attributes = group_attributes(place)
        check_kind(place, attributes, FORMAT, FORMAT_VERSION)
        return attributes

    def _video(self, video_id: str) -> _OpenVideo:
        if video_id not in self._open:
            if video_id not in self:
                self._attributes(video_id)
            self._open[video_id] = _OpenVideo(self.place(video_id))
        return self._open[video_id]

    def ensure_root(self) -> None:
        """Creates an empty store if there is none. Raises StoreError if the disk is full."""
        root = self.path / "zarr.json"
        with explain_disk_errors(self.path):
            if root.is_file():
                try:
                    attributes = group_attributes(self.path)
                except StoreError:
                    # This document is the same in every store, so a damaged one is written again.
                    root.unlink(missing_ok=True)
                else:
                    check_kind(self.path, attributes, FORMAT, FORMAT_VERSION)
                    return
            # Two writers can both get here; they write the same bytes.
            document = group_document({"format": FORMAT, "FORMAT_VERSION": FORMAT_VERSION})
            with replace_file(root) as file:
                file.write(document_bytes(document))


class _OpenVideo:
    """The arrays of one video. The small ones are in memory.

    Args:
        place: the video's folder.
    """

    def __init__(self, place: Path) -> None:
        self.attributes = open_group(place, FORMAT, FORMAT_VERSION)
        self.weight: NDArray[np.float32] = read_array(place / "weight", np.float32)
        self.status: NDArray[np.uint8] = read_array(place / "status", np.uint8)
        self._rows = {name: row for row, name in enumerate(self.attributes["expressions"])}
        self._masks: zarr.Array[Any] | None = None
        with explain_damage(f"{place}/masks"):
            said = _masks_document(
                len(self._rows), len(self.attributes["frames"]), *self.attributes["size"]
            )
            if not is_stored_as(read_document(place / "masks"), said):
                self._masks = open_array(place / "masks")

    def read(self, shard: Path, row: int, frames: Sequence[int]) -> NDArray[np.bool_]:
        """Returns masks [T, H, W] of some frames of an expression."""
        height, width = (int(side) for side in self.attributes["size"])
        if self._masks is None:
            return read_shard(shard, len(self.attributes["frames"]), frames, (height, width))
        mask = np.zeros((len(frames), height, width), dtype=np.bool_)
        for index, frame in enumerate(frames):
            mask[index] = self._masks[row, frame]
        return mask

    def row(self, expression_id: str, place: Path) -> int:
        if expression_id not in self._rows:
            raise StoreError(
                f"{place}: no expression {expression_id}; expected one of {list(self._rows)}"
            )
        return self._rows[expression_id]


def _shard(video: Path, row: int) -> Path:
    """Returns the file with the masks of an expression, in the folder of a video."""
    return video / "masks" / "c" / str(row) / "0" / "0" / "0"


def _masks_document(expressions: int, frames: int, height: int, width: int) -> dict[str, Any]:
    """Returns ``zarr.json`` of the masks [E, T, H, W] of a video."""
    shape = (expressions, frames, height, width)
    shard = (1, *(max(1, side) for side in shape[1:]))
    return array_document(shape, np.dtype(np.bool_), shard, codecs_of(height, width))
