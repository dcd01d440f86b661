"""JHMDB-Sentences (Gavrilyuk et al. 2018): 928 short videos of one actor, a sentence each.

::

    <root>/Rename_Images/<action>/<video>/<frame from 1>.png
    <root>/puppet_mask/<action>/<video>/puppet_mask.mat     part_mask [H, W, T]
    <root>/jhmdb_annotation.txt                             CSV with header: video_id, query
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from pipeline.errors import InputError
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef
from storage.csv_files import read_csv_rows
from storage.datasets.base import MaskedReader
from storage.datasets.frames import video_from_folder
from storage.datasets.sentences import checked_sentence
from storage.names import safe_name

_LAYOUT = "CSV with a header: video, sentence"

_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MatReadError,
    NotImplementedError,
    OSError,
    TypeError,
    UnboundLocalError,
    ValueError,
    zlib.error,
)
"""What SciPy raises for files cut short or with wrong bytes, and for MATLAB 7.3's HDF5."""


class JHMDBSentences(MaskedReader):
    """Reader of JHMDB-Sentences, which is a test set as a whole.

    The masks of a video may end before its frames do; there is no truth past their end.

    Args:
        root: the data set's folder.
        split: ``test``.

    Raises:
        InputError: a folder or the text file is missing or malformed.
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__("jhmdb", root, split)
        self._texts = root / "jhmdb_annotation.txt"
        self._frames = root / "Rename_Images"
        if split != "test":
            raise InputError(root, f"split {split!r}", "test, the only one", "give --split test")
        if not self._frames.is_dir():
            raise InputError(self._frames, "no such folder", "frames by action", "check --root")
        self._sentences: dict[str, list[str]] = defaultdict(list)
        for number, row in enumerate(read_csv_rows(self._texts, _LAYOUT)[1:], start=2):
            if len(row) < 2:
                raise InputError(self._texts, f"row {number} is {row}", _LAYOUT, "mend the row")
            self._sentences[row[0].strip()].append(row[1])
        self._actions = {
            video.name: action.name
            for action in sorted(self._frames.iterdir())
            if action.is_dir()
            for video in action.iterdir()
        }
        self._ids = tuple(sorted(self._sentences))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""
        return self._ids

    def video(self, video_id: str) -> VideoRef:
        """All frames of a video. Raises InputError if there are none or one is misshapen."""
        self._sentences_of(video_id)
        safe_name(video_id, self._texts, "video id")
        folder = self._frames / self._actions.get(video_id, "*") / video_id
        return video_from_folder(video_id, folder, (self.root, self._frames))

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The sentences of a video. Raises InputError if one is empty or too long."""
        return [
            Expression(
                key=SampleKey(self.name, self.split, video_id, str(number)),
                text=checked_sentence(text, self._texts, f"sentence of video {video_id}"),
                object_ids=("1",),
            )
            for number, text in enumerate(self._sentences_of(video_id))
        ]

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The actor's mask [1, H, W]; None past the end of the masks, or where there are none."""
        action = self._actions.get(video.id, "*")
        path = self.root / "puppet_mask" / action / video.id / "puppet_mask.mat"
        if not path.is_file():
            return None
        masks = _puppet_masks(path)
        if masks.shape[:2] != (video.height, video.width):
            raise InputError(
                path,
                f"masks of {masks.shape[0]} x {masks.shape[1]} pixels",
                f"{video.height} x {video.width}, as the frames",
                "restore the file",
            )
        return masks[None, :, :, index] if index < masks.shape[2] else None

    def _sentences_of(self, video_id: str) -> list[str]:
        if video_id not in self._ids:
            raise InputError(
                self._texts,
                f"no video {video_id!r}",
                f"one of the {len(self._ids)} videos",
                "check the id",
            )
        return self._sentences[video_id]


@lru_cache(maxsize=4)
def _puppet_masks(path: Path) -> NDArray[np.bool_]:
    """All masks of a video, [H, W, T]."""
    expected = "a MATLAB file with part_mask [H, W, T]"
    try:
        masks = np.asarray(scipy.io.loadmat(path)["part_mask"]).astype(bool)
    except _DAMAGE as error:
        raise InputError(path, f"not readable ({error})", expected, "restore the file") from error
    # MATLAB drops the last axis of a single frame.
    masks = masks[:, :, None] if masks.ndim == 2 else masks
    if masks.ndim != 3:
        raise InputError(path, f"part_mask {masks.shape}", expected, "restore the file")
    return masks
