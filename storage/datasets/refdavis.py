"""Ref-DAVIS17 (Khoreva et al. 2018), as published and as converted to another layout.

Published::

    <root>/DAVIS/JPEGImages/480p/<video>/<frame>.jpg
    <root>/DAVIS/Annotations_unsupervised/480p/<video>/<frame>.png
    <root>/DAVIS/ImageSets/2017/{train,val}.txt                       optional for valid
    <root>/davis_text_annotations/Davis17_annot{1,2}[_full_video].txt

Converted: the Ref-YouTube-VOS layout. In both an expression's id is 4·rank + annotation set, rank
being the object's place among the video's object ids sorted as text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader, annotated_size, mask_names, palette_masks, void_of
from storage.datasets.files import is_folder, read_ids
from storage.datasets.frames import video_from_folder
from storage.datasets.refytvos import RefYouTubeVOS
from storage.datasets.sentences import checked_sentence
from storage.files.listing import spelled
from storage.files.names import safe_name
from storage.files.text_files import read_text_file

ANNOTATION_SETS = (
    ("Davis17_annot1.txt", "utf-8"),
    ("Davis17_annot1_full_video.txt", "utf-8"),
    ("Davis17_annot2.txt", "latin-1"),
    ("Davis17_annot2_full_video.txt", "latin-1"),
)
"""File and encoding: two annotators, who saw the first frame or the full video."""

MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}
"""Names in the text files -> names of the videos."""

VALID_VIDEOS = frozenset(
    {
        "bike-packing",
        "blackswan",
        "bmx-trees",
        "breakdance",
        "camel",
        "car-roundabout",
        "car-shadow",
        "cows",
        "dance-twirl",
        "dog",
        "dogs-jump",
        "drift-chicane",
        "drift-straight",
        "goat",
        "gold-fish",
        "horsejump-high",
        "india",
        "judo",
        "kite-surf",
        "lab-coat",
        "libby",
        "loading",
        "mbike-trick",
        "motocross-jump",
        "paragliding-launch",
        "parkour",
        "pigs",
        "scooter-black",
        "shooting",
        "soapbox",
    }
)
"""DAVIS 2017 val, for a download without ``ImageSets``."""

_LINE = re.compile(r'^\s*(\S+)\s+(\d+)\s+"(.*)"\s*$')
_LINE_LAYOUT = 'lines such as: bear 1 "a brown bear"'


def open_refdavis(root: Path, split: str, links: Links = "follow") -> MaskedReader:
    """The reader of whichever form lies under the root.

    Raises:
        InputError: neither does, or the split is missing.
    """
    expected = (
        "Ref-DAVIS17 as published (DAVIS and davis_text_annotations), or converted to the"
        " Ref-YouTube-VOS layout (meta_expressions and the splits)"
    )
    if is_folder(root / "davis_text_annotations", expected):
        return RefDAVIS(root, split, links)
    if is_folder(root / "meta_expressions", expected) or not root.is_dir():
        return RefYouTubeVOS(root, split, links, name="refdavis")
    found = "neither davis_text_annotations nor meta_expressions"
    raise InputError(root, found, expected, "check --root")


class RefDAVIS(MaskedReader):
    """Reader of Ref-DAVIS17 as published.

    Args:
        root: holds ``DAVIS`` and ``davis_text_annotations``.
        split: ``train`` or ``valid``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: a folder or a text file is missing, or a line of one is malformed.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        super().__init__("refdavis", root, split, links)
        if split not in ("train", "valid"):
            raise InputError(root, f"split {split!r}", "train or valid", "check --split")
        self._frames = root / "DAVIS" / "JPEGImages" / "480p"
        self._annotations = root / "DAVIS" / "Annotations_unsupervised" / "480p"
        self._texts = root / "davis_text_annotations"
        expected = "the frames of DAVIS 2017"
        if not (is_folder(self._frames, expected) or is_folder(self._annotations, expected)):
            raise InputError(self._frames, "no such folder", expected, "check --root", missing=True)
        # video -> object id -> annotation set -> sentence
        self._sentences: dict[str, dict[str, dict[int, str]]] = defaultdict(dict)
        for number, (name, encoding) in enumerate(ANNOTATION_SETS):
            self._read_texts(number, self._texts / name, encoding)
        wanted = self._videos_of_split()
        self._ids = tuple(sorted(video for video in self._sentences if video in wanted))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; nothing but the text files is read."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """All frames of a video. Raises InputError if there are none or one is misshapen."""
        self._objects(video_id)
        safe_name(video_id, self._texts, "video id")
        return video_from_folder(
            video_id, spelled(self._frames, video_id), self.within(self._frames)
        )

    def sources(self, video_id: str) -> VideoSources:
        """The video's folders of frames and of index masks."""
        safe_name(video_id, self._texts, "video id")
        return VideoSources((), (self._frames / video_id,), (self._annotations / video_id,))

    def _annotated_video(self, video_id: str) -> VideoRef:
        """The frames that have an index mask."""
        self._objects(video_id)
        folder = spelled(self._annotations, safe_name(video_id, self._texts, "video id"))
        names = tuple(Path(name).stem for name in mask_names(folder))
        paths = tuple(self._frames / video_id / f"{name}.jpg" for name in names)
        return VideoRef(video_id, names, paths, *annotated_size(folder))

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """Up to four expressions an object, one of each annotation set.

        Raises:
            InputError: the video is not there, or a sentence is empty or too long.
        """
        objects = self._objects(video_id)
        return [
            Expression(
                key=SampleKey(self.name, self.split, video_id, str(4 * rank + number)),
                text=checked_sentence(
                    objects[object_id][number],
                    self._texts / ANNOTATION_SETS[number][0],
                    f"object {object_id} of video {video_id}",
                ),
                object_ids=(object_id,),
            )
            for rank, object_id in enumerate(sorted(objects))
            for number in sorted(objects[object_id])
        ]

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask of the object [1, H, W]; None without a mask file."""
        path = self.mask_file(spelled(self._annotations, video.id), video.frames[index])
        return palette_masks(path, expression.object_ids, (video.height, video.width))

    def void(self, video: VideoRef, index: FrameIndex) -> NDArray[np.bool_] | None:
        """The pixels [H, W] whose value is 255."""
        path = self.mask_file(spelled(self._annotations, video.id), video.frames[index])
        return void_of(path, (video.height, video.width))

    def _objects(self, video_id: str) -> dict[str, dict[int, str]]:
        if video_id not in self._ids:
            raise InputError(
                self._texts,
                f"no video {video_id!r} in split {self.split}",
                f"one of the {len(self._ids)} videos of the split",
                "check the id",
            )
        return self._sentences[video_id]

    def _read_texts(self, number: int, path: Path, encoding: str) -> None:
        text = read_text_file(
            self.checked(path), _LINE_LAYOUT, "restore the file", encoding=encoding
        )
        # Not splitlines: Latin-1 has a character that it takes for the end of a line.
        for row, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            match = _LINE.match(line)
            if match is None:
                raise InputError(path, f"line {row} is {line[:60]!r}", _LINE_LAYOUT, "fix the line")
            video, object_id, text = match.groups()
            video = safe_name(MISSPELT.get(video, video), path, "video id")
            self._sentences[video].setdefault(object_id, {})[number] = text

    def _videos_of_split(self) -> frozenset[str]:
        name = "val" if self.split == "valid" else "train"
        path = self.root / "DAVIS" / "ImageSets" / "2017" / f"{name}.txt"
        ids = read_ids(path)
        if ids is not None:
            return ids
        if self.split == "valid":
            return VALID_VIDEOS
        return frozenset(self._sentences) - VALID_VIDEOS
