"""A2D-Sentences (Gavrilyuk et al. 2018): actors and actions, 3 to 5 annotated frames a video.

::

    <root>/Release/videoset.csv                     vid, label, start, end, height, width, frames,
                                                    annotated frames, subset (0 train, 1 test)
    <root>/Release/clips320H/<video>.mp4
    <root>/text_annotations/a2d_annotation.txt      CSV with header: video_id, instance_id, query
    <root>/text_annotations/a2d_missed_videos.txt   optional
    <root>/text_annotations/a2d_annotation_with_instances/<video>/<frame from 1>.h5
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.ports import Image
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.files import names_in, read_ids, status
from storage.datasets.numbers import is_number
from storage.datasets.sentences import checked_sentence
from storage.datasets.video_files import ClipCache
from storage.files.csv_files import read_csv_rows
from storage.files.faults import is_files_fault
from storage.files.hdf5_files import stored_array
from storage.files.listing import spelled
from storage.files.names import safe_name
from storage.files.regular import check_regular

SUBSETS = {"train": "0", "test": "1"}

_QUERIES_LAYOUT = "CSV with the header video_id,instance_id,query"
_MASKS_LAYOUT = "HDF5 with instance [N] and reMask [N, W, H]"


@dataclass(frozen=True)
class Query:
    """A row of the annotation text: a sentence about one instance of a video."""

    video: str
    instance: str
    text: str


class A2DSentences(MaskedReader):
    """Reader of A2D-Sentences; an expression's id is its instance's, and so is its object's.

    Frames are decoded out of the clips. Truth is at the annotated frames alone, and an instance
    that such a frame does not list is absent there.

    Args:
        root: holds ``Release`` and ``text_annotations``.
        split: ``train`` or ``test``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: a file is missing or malformed.
    """

    in_order = True  # Frames come out of video files.

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        super().__init__("a2d", root, split, links)
        if split not in SUBSETS:
            raise InputError(root, f"split {split!r}", "train or test", "check --split")
        self._clips = root / "Release" / "clips320H"
        self._texts = root / "text_annotations"
        self._instances = self._texts / "a2d_annotation_with_instances"
        self._queries_path = self._texts / "a2d_annotation.txt"
        self._cache = ClipCache()
        self._queries: dict[str, list[Query]] = defaultdict(list)
        wanted = self._videos_of_split()
        for query in read_queries(self.checked(self._queries_path)):
            if query.video in wanted:
                self._queries[query.video].append(query)
        self._ids = tuple(sorted(self._queries))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the text files is read."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """The frames of a clip, named from 00001 as the annotations are."""
        self._queries_of(video_id)
        safe_name(video_id, self._queries_path, "video id")
        path = self.checked(spelled(self._clips, f"{video_id}.mp4"), self._clips)
        info = self._cache.info(path)
        if info.frames == 0:
            raise InputError(path, "no frames", "a video file", "restore the file")
        names = tuple(f"{number:05d}" for number in range(1, info.frames + 1))
        return VideoRef(video_id, names, (path,) * info.frames, info.height, info.width)

    def sources(self, video_id: str) -> VideoSources:
        """The clip, and the folder of its annotated frames."""
        safe_name(video_id, self._queries_path, "video id")
        clip = spelled(self._clips, f"{video_id}.mp4")
        return VideoSources((), (clip,), (self._instances / video_id,))

    def _annotated_video(self, video_id: str) -> VideoRef:
        """The frames that have an annotation file."""
        self._queries_of(video_id)
        files = self.annotation_files(safe_name(video_id, self._queries_path, "video id"))
        masks = next((mask for path in files for mask in read_instances(path).values()), None)
        if masks is None:
            raise InputError(
                self._instances / video_id, "no masks", _MASKS_LAYOUT, "restore the clip"
            )
        names = tuple(path.stem for path in files)
        return VideoRef(video_id, names, tuple(files), *masks.shape)

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """A sentence an instance. Raises InputError if one is empty or too long."""
        return [
            Expression(
                key=SampleKey(self.name, self.split, video_id, query.instance),
                text=checked_sentence(
                    query.text, self._queries_path, f"instance {query.instance} of {video_id}"
                ),
                object_ids=(query.instance,),
            )
            for query in sorted(self._queries_of(video_id), key=lambda query: int(query.instance))
        ]

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        """One decoded frame. Raises InputError if the clip is broken."""
        return self._cache.frame(video.paths[index], index)

    def annotation_files(self, video_id: str) -> list[Path]:
        """The annotation files of a video, in order; none where it has no folder of them.

        Raises:
            InputError: the folder is a file, or may not be read.
        """
        folder = spelled(self._instances, video_id)
        expected = f"the annotations of video {video_id}"
        if status(folder, expected) is None:
            return []
        names = names_in(folder, expected)
        return [
            self.checked(folder / name, self._instances)
            for name in names
            if name.lower().endswith(".h5")
        ]

    def rows(self) -> tuple[int, int]:
        """Rows of the annotation text, of all splits, and how many of them are dropped."""
        rows = len(read_csv_rows(self._queries_path, _QUERIES_LAYOUT)) - 1
        return rows, rows - len(read_queries(self._queries_path))

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask of the instance [1, H, W]; None where the frame is not annotated."""
        folder = spelled(self._instances, video.id)
        path = self.checked(spelled(folder, f"{video.frames[index]}.h5"), self._instances)
        if status(path, _MASKS_LAYOUT) is None:
            return None
        masks = read_instances(path)
        (instance,) = expression.object_ids
        mask = masks.get(int(instance), np.zeros((video.height, video.width), dtype=np.bool_))
        if mask.shape != (video.height, video.width):
            raise InputError(
                path,
                f"a mask of {mask.shape[0]} x {mask.shape[1]} pixels",
                f"{video.height} x {video.width}, as the clip",
                "take the clips of clips320H that the annotations were made on",
            )
        return mask[None]

    def _queries_of(self, video_id: str) -> list[Query]:
        if video_id not in self._ids:
            raise InputError(
                self._queries_path,
                f"no video {video_id!r} in split {self.split}",
                f"one of the {len(self._ids)} videos of the split",
                "check the id",
            )
        return self._queries[video_id]

    def _videos_of_split(self) -> set[str]:
        path = self.checked(self.root / "Release" / "videoset.csv")
        rows = read_csv_rows(path, "CSV without header: vid, label, start, end, ..., subset")
        for number, row in enumerate(rows, start=1):
            if len(row) < 9:
                raise InputError(
                    path, f"{len(row)} columns in row {number}", "9 columns", "fix the row"
                )
        videos = {row[0].strip() for row in rows if row[8].strip() == SUBSETS[self.split]}
        missed = read_ids(self.checked(self._texts / "a2d_missed_videos.txt"))
        return videos - (missed or frozenset())


def read_queries(path: Path) -> list[Query]:
    """The rows of the annotation text, without the one whose instance is '1 (copy)', and without
    those that repeat another.

    Raises:
        InputError: the file is missing, its header is another, an instance is no number, or two
            rows give one instance two sentences.
    """
    rows = read_csv_rows(path, _QUERIES_LAYOUT)
    if not rows or [name.strip() for name in rows[0][:3]] != ["video_id", "instance_id", "query"]:
        raise InputError(path, "another header", _QUERIES_LAYOUT, "restore the file")
    queries: dict[tuple[str, int], Query] = {}
    for number, row in enumerate(rows[1:], start=2):
        instance = row[1].strip() if len(row) > 2 else ""
        if instance == "1 (copy)":
            continue
        if not is_number(instance):
            raise InputError(
                path, f"row {number} is {','.join(row)[:60]!r}", _QUERIES_LAYOUT, "fix the row"
            )
        query = Query(row[0].strip(), instance, row[2])
        known = queries.setdefault((query.video, int(instance)), query)
        if known.text.split() != query.text.split():
            raise InputError(
                path,
                f"row {number} gives instance {instance} of {query.video} another sentence,"
                f" {query.text!r:.60}",
                f"one sentence an instance; {_QUERIES_LAYOUT}",
                "take one of the rows out",
            )
    return list(queries.values())


def odd_instances(path: Path) -> str:
    """What is odd about an annotation file that is read all the same; empty for nothing.

    Raises:
        InputError: as :func:`read_instances`.
    """
    instances, masks = _arrays(path)
    twice = sorted({number for number in instances if instances.count(number) > 1})
    if twice:
        return f"instance {twice[0]} is listed twice; the first counts"
    if len(masks) > len(instances):
        return f"{len(masks)} masks for {len(instances)} instances; the last belong to none"
    return ""


def read_instances(path: Path) -> dict[int, NDArray[np.bool_]]:
    """Instance -> mask [H, W] of an annotation file.

    Masks are kept transposed, [N, W, H], or [W, H] where there is one. Two published quirks: a file
    lists an instance twice (the first counts), and some hold more masks than instances (the masks
    past the list belong to none).

    Raises:
        InputError: the file is missing, broken, or holds fewer masks than instances.
        OSError: it cannot be read for a reason that may pass.
    """
    instances, masks = _arrays(path)
    result: dict[int, NDArray[np.bool_]] = {}
    for instance, mask in zip(instances, masks, strict=False):
        result.setdefault(instance, mask.T)
    return result


def _arrays(path: Path) -> tuple[list[int], NDArray[np.bool_]]:
    """Instances [N], and masks [N or more, W, H]."""
    expected, remedy = _MASKS_LAYOUT, "restore the file"
    try:
        check_regular(path, expected)
        with h5py.File(path, "r") as file:
            listed = np.atleast_1d(stored_array(file, "instance").squeeze())
            instances = listed.astype(int).tolist()
            masks = stored_array(file, "reMask").astype(bool)
    except InputError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        if not is_files_fault(error):
            raise
        raise InputError(path, f"not readable ({error})", expected, remedy) from error
    masks = masks[None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or len(masks) < len(instances):
        found = f"{len(instances)} instances and masks {masks.shape}"
        raise InputError(path, found, expected, remedy)
    return instances, masks
