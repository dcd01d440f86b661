"""The index that Ref-YouTube-VOS and others share: expressions and frames of each video."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.types import Expression, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.files import names_in, status
from storage.datasets.frames import frame_files, video_from_folder
from storage.datasets.sentences import checked_sentence, expression_order
from storage.files.json_files import list_at, object_at, read_json_object
from storage.files.listing import spelled
from storage.files.names import safe_name

INDEX = "meta_expressions.json"
INDEX_LAYOUT = '{"videos": {id: {"expressions": {id: {"exp": text}}, "frames": [name]}}}'


class IndexedReader(MaskedReader):
    """A reader whose videos and expressions are in a ``meta_expressions.json``.

    Args:
        name: the data set's name in sample keys.
        root: the data set's folder.
        split: its name, one component of a path.
        index_path: the index of the split, from the root, with ``{split}`` for its name.
        layout: where an index should be, for the message.
        links: as of :class:`MaskedReader`.
        frames: the folder of the videos' folders of frames, as ``index_path``.

    Raises:
        InputError: the root or the index is missing, or the index is malformed.
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
    ) -> None:
        super().__init__(name, root, split, links)
        safe_name(split, root, "split")
        self.index_path = root / index_path.format(split=split)
        self._frames = root / frames.format(split=split)
        if status(self.index_path, layout) is None:
            remedy = "check --root and --split"
            # Raises where glob takes a folder that may not be read for an empty one.
            names_in(root / index_path.partition("{split}")[0].rpartition("/")[0], layout, remedy)
            splits = ", ".join(_splits_in(root, index_path)) or "none"
            raise InputError(
                self.index_path,
                f"no such file; splits found: {splits}",
                layout,
                remedy,
                missing=True,
            )
        self._videos = read_videos(self.checked(self.index_path), INDEX_LAYOUT)
        self._ids = tuple(sorted(self._videos))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the index is read."""
        return self._ids

    def frame_names(self, video_id: str) -> list[str]:
        """The frames that the index lists; no file is looked at."""
        names: list[str] = list_at(
            self._entry(video_id).get("frames"),
            self.index_path,
            f"frames of video {video_id}",
            INDEX_LAYOUT,
        )
        return names

    def frame_files(self, video_id: str) -> list[Path]:
        """Where each listed frame is, or should be.

        Raises:
            InputError: the video's folder is missing or may not be read.
        """
        safe_name(video_id, self.index_path, "video id")
        folder = spelled(self._frames, self._place(video_id))
        there = frame_files(video_id, folder, self.within(self._frames))
        names = [str(name) for name in self.frame_names(video_id)]
        return [there.get(name, folder / f"{name}.jpg") for name in names]

    def _video(self, video_id: str) -> VideoRef:
        """The frames that the index lists. Raises InputError if any is missing or misshapen."""
        names = self.frame_names(video_id)
        return video_from_folder(
            video_id,
            spelled(self._frames, self._place(video_id)),
            self.within(self._frames),
            names,
            self.index_path,
        )

    def sources(self, video_id: str) -> VideoSources:
        """The video's folders of frames and of ground truth, and the frames that the index lists.

        Raises:
            InputError: the index is malformed here.
        """
        names = tuple(map(str, self.frame_names(video_id)))
        frames = (self._frames / self._place(video_id),)
        return VideoSources(names, frames, self._truth_places(video_id))

    def _place(self, video_id: str) -> str:
        """The folder of a video below the folder of all frames."""
        return video_id

    @abstractmethod
    def _truth_places(self, video_id: str) -> tuple[Path, ...]:
        """Files and folders that the ground truth of a video is read from."""

    def _annotated_video(self, video_id: str) -> VideoRef:
        """The frames that the index lists, of the size that the masks have."""
        names = self.frame_names(video_id)
        for name in names:
            safe_name(name, self.index_path, "frame name")
        folder = self._frames / self._place(video_id)
        paths = tuple(folder / f"{name}.jpg" for name in names)
        return VideoRef(video_id, tuple(names), paths, *self._annotated_size(video_id))

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The expressions of a video, in the order of their ids.

        Raises:
            InputError: the index is malformed here, or a sentence is empty or too long.
        """
        what = f"expressions of video {video_id}"
        entries = object_at(
            self._entry(video_id).get("expressions"), self.index_path, what, INDEX_LAYOUT
        )
        return [
            self._expression(video_id, name, entries[name])
            for name in sorted(entries, key=expression_order)
        ]

    @abstractmethod
    def _annotated_size(self, video_id: str) -> tuple[int, int]:
        """H and W of a video's masks. Raises InputError if it has none."""

    @abstractmethod
    def _object_ids(self, video_id: str, entry: Mapping[str, Any], what: str) -> tuple[str, ...]:
        """The ids by which the masks know the target of an expression."""

    def _no_target(self, entry: Mapping[str, Any]) -> bool:
        """Whether the index says that an expression refers to nothing in the video."""
        return False

    def _kind(self, entry: Mapping[str, Any], what: str) -> str | None:
        """The kind of an expression; None if the index does not say."""
        kind = entry.get("kind")
        if kind is not None and not isinstance(kind, str):
            raise InputError(
                self.index_path, f"kind of {what} is {kind!r}", "text or nothing", "fix it"
            )
        return kind

    def _expression(self, video_id: str, name: str, value: object) -> Expression:
        what = f"expression {name} of video {video_id}"
        entry = object_at(value, self.index_path, what, INDEX_LAYOUT)
        safe_name(name, self.index_path, f"expression id of video {video_id}")
        return Expression(
            key=SampleKey(self.name, self.split, video_id, name),
            text=checked_sentence(entry.get("exp"), self.index_path, what),
            kind=self._kind(entry, what),
            object_ids=self._object_ids(video_id, entry, what),
            no_target=self._no_target(entry),
        )

    def _entry(self, video_id: str) -> dict[str, Any]:
        """What the index says of a video of the split, whose id is safe."""
        if video_id not in self._videos:
            raise InputError(
                self.index_path,
                f"no video {video_id!r}",
                f"one of the {len(self._ids)} videos of split {self.split}",
                "check the id",
            )
        safe_name(video_id, self.index_path, "video id")
        return object_at(self._videos[video_id], self.index_path, f"video {video_id}", INDEX_LAYOUT)


def read_videos(path: Path, layout: str) -> dict[str, Any]:
    """The ``videos`` of a JSON file. Raises InputError if it is missing or malformed."""
    return object_at(read_json_object(path, layout).get("videos"), path, "videos", layout)


def _splits_in(root: Path, index_path: str) -> list[str]:
    """The splits whose index is there. Arguments as of :class:`IndexedReader`."""
    before, _, after = index_path.partition("{split}")
    pattern = re.compile(rf"{re.escape(before)}([^/]+){re.escape(after)}")
    found = (path.relative_to(root).as_posix() for path in root.glob(f"{before}*{after}"))
    matches = (pattern.fullmatch(place) for place in sorted(found))
    return [match[1] for match in matches if match]
