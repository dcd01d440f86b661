"""JHMDB-Sentences (Gavrilyuk et al. 2018): 928 short videos of one actor, a sentence each.

::

    <root>/Rename_Images/<action>/<video>/<frame from 1>.png
    <root>/puppet_mask/<action>/<video>/puppet_mask.mat     part_mask [H, W, T]
    <root>/jhmdb_annotation.txt                             CSV with header: video_id, query
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.file_names import composed
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.files import REMEDY, is_folder, names_in, status
from storage.datasets.frames import video_from_folder
from storage.datasets.sentences import checked_sentence
from storage.files.csv_files import read_csv_rows
from storage.files.listing import spelled
from storage.files.mat_files import read_mat_array
from storage.files.names import safe_name

logger = logging.getLogger(__name__)

_LAYOUT = "CSV with a header: video, sentence"
_MASKS_LAYOUT = "a MATLAB file with part_mask [H, W, T]"


class JHMDBSentences(MaskedReader):
    """Reader of JHMDB-Sentences, which is a test set as a whole.

    A video is looked for in the folders of the actions. Where one of them cannot be read, a warning
    is logged, and the videos that are in none of the others cannot be had.

    The masks of a video may end before its frames do; there is no ground truth past their end.

    Args:
        root: the data set's folder.
        split: ``test``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: a folder or the text file is missing or malformed.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        super().__init__("jhmdb", root, split, links)
        self._texts = root / "jhmdb_annotation.txt"
        self._frames = root / "Rename_Images"
        if split != "test":
            raise InputError(root, f"split {split!r}", "test, the only one", "give --split test")
        self._sentences: dict[str, list[str]] = defaultdict(list)
        for number, row in enumerate(
            read_csv_rows(self.checked(self._texts), _LAYOUT)[1:], start=2
        ):
            if len(row) < 2:
                raise InputError(
                    self._texts, f"row {number} is {str(row)[:200]}", _LAYOUT, "fix the row"
                )
            self._sentences[row[0].strip()].append(row[1])
        self._unlisted: list[str] = []
        self._actions = self._actions_of_videos()
        self._ids = tuple(sorted(self._sentences))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """All frames of a video. Raises InputError if there are none or one is misshapen."""
        self._sentences_of(video_id)
        safe_name(video_id, self._texts, "video id")
        folder = spelled(self._frames / self._action(video_id), video_id)
        return video_from_folder(video_id, folder, self.within(self._frames))

    def sources(self, video_id: str) -> VideoSources:
        """The video's folder of frames and its file of masks."""
        safe_name(video_id, self._texts, "video id")
        folder = self._frames / self._action(video_id) / video_id
        return VideoSources((), (folder,), (self._masks_file(video_id),))

    def _annotated_video(self, video_id: str) -> VideoRef:
        """The frames that have a mask, named from 00001 as the frames are."""
        self._sentences_of(video_id)
        path = self._masks_file(safe_name(video_id, self._texts, "video id"))
        if status(path, _MASKS_LAYOUT) is None:
            raise InputError(
                path, "no such file", _MASKS_LAYOUT, "restore the frames", missing=True
            )
        height, width, frames = _puppet_masks(path).shape
        names = tuple(f"{number:05d}" for number in range(1, frames + 1))
        return VideoRef(video_id, names, (path,) * frames, height, width)

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
        path = self._masks_file(video.id)
        if status(path, _MASKS_LAYOUT) is None:
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

    def _masks_file(self, video_id: str) -> Path:
        top = self.root / "puppet_mask"
        folder = spelled(top / self._masks_action(video_id), video_id)
        return self.checked(spelled(folder, "puppet_mask.mat"), top)

    def _masks_action(self, video_id: str) -> str:
        """The action of a video, of the masks' folders where no frames are there."""
        action, top = self._action(video_id), self.root / "puppet_mask"
        expected = "masks by action"
        if action != "*" or not is_folder(top, expected):
            return action
        names = names_in(top, expected)
        return next((name for name in names if spelled(top / name, video_id).is_dir()), action)

    def _actions_of_videos(self) -> dict[str, str]:
        """Video -> action; notes the actions whose folders cannot be read."""
        expected = "frames by action"
        masks_alone = is_folder(self.root / "puppet_mask", expected)
        if masks_alone and status(self._frames, expected) is None:
            return {}
        names = names_in(self._frames, expected, f"{REMEDY}, or check --root")
        actions = [name for name in names if is_folder(self._frames / name, expected)]
        found: dict[str, str] = {}
        for action in actions:
            try:
                found.update(dict.fromkeys(self._videos_of(action), action))
            except InputError as error:
                logger.warning("%s; its videos are skipped", error)
                self._unlisted.append(action)
        return found

    def _videos_of(self, action: str) -> list[str]:
        names = names_in(self._frames / action, f"the videos of action {action}")
        return [composed(name) for name in names]

    def _action(self, video_id: str) -> str:
        """The action of a video, * if it is in none; InputError if it may be in a closed one."""
        name = composed(video_id)
        if name in self._actions:
            return self._actions[name]
        return next((action for action in self._unlisted if name in self._videos_of(action)), "*")

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
    masks = read_mat_array(path, "part_mask", _MASKS_LAYOUT).astype(bool)
    # MATLAB drops the last axis of a single frame.
    masks = masks[:, :, None] if masks.ndim == 2 else masks
    if masks.ndim != 3:
        found = f"part_mask {masks.shape}"
        raise InputError(path, found, _MASKS_LAYOUT, "restore the file")
    return masks
