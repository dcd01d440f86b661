"""VISOR (Darkhalil et al. 2022): sparse masks of EPIC-KITCHENS, told about by its narrations.

::

    <root>/GroundTruth-SparseAnnotations/annotations/<split>/<P01_01>.json
    <root>/GroundTruth-SparseAnnotations/rgb_frames/<split>/<P01>/<P01_01>/<P01_01>_frame_<n>.jpg
    <root>/EPIC_100_train.csv and EPIC_100_validation.csv      narrations; one of them is enough
    <root>/frame_mapping.json                                  {video: {frame of VISOR: of EPIC}};
                                                               or in the folder of the annotations

VISOR took its frames out of the videos anew and numbers them otherwise than EPIC-KITCHENS, whose
numbers the narrations have; the mapping says which is which.

A video is the annotated frames within a narration's span, two or more; its id is the narration's.
Its expressions are "<object> used in the action of <narration>", one an object that two or more of
the frames show.
"""

from __future__ import annotations

import logging
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.config import Links
from pipeline.errors import InputError
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.files import is_folder, names_in, status
from storage.datasets.frames import SUFFIXES, video_from_folder
from storage.datasets.numbers import is_number
from storage.datasets.sentences import checked_sentence
from storage.files.csv_files import read_csv_rows
from storage.files.json_files import list_at, object_at, read_json_object
from storage.files.listing import spelled
from storage.files.names import is_safe_name, safe_name

logger = logging.getLogger(__name__)

MINIMUM_FRAMES = 2
NARRATIONS = ("EPIC_100_train.csv", "EPIC_100_validation.csv")

_COLUMNS = ("narration_id", "video_id", "start_frame", "stop_frame", "narration")
_NARRATIONS_LAYOUT = f"CSV with the columns {', '.join(_COLUMNS)}"
_MAPPING = "frame_mapping.json"
_MAPPING_LAYOUT = '{"P01_01": {"P01_01_frame_0000000140.jpg": "frame_0000000139.jpg"}}'
_NUMBER = re.compile(r"([0-9]{1,18})(\.\w+)?$")
_MASKS_LAYOUT = '{"video_annotations": [{"image": {"name": ...}, "annotations": [{"name": ...}]}]}'

Segments = list[Any]
"""Polygons [[[x, y], ...], ...] of an entity, as the file has them."""


@dataclass(frozen=True)
class _Narration:
    """A narration with the annotated frames in its span, by file name without suffix."""

    video: str
    text: str
    frames: tuple[str, ...]


class VISOR(MaskedReader):
    """Reader of VISOR's sparse annotations.

    Args:
        root: the data set's folder, in which the narrations of EPIC-KITCHENS-100 lie too.
        split: ``train`` or ``val``.
        links: as of :class:`MaskedReader`.

    Raises:
        InputError: a folder, the narrations or the mapping of the frames' numbers are missing or
            malformed.
    """

    def __init__(self, root: Path, split: str, links: Links = "follow") -> None:
        super().__init__("visor", root, split, links)
        safe_name(split, root, "split")
        sparse = root / "GroundTruth-SparseAnnotations"
        self._annotations = sparse / "annotations" / split
        self._frames = sparse / "rgb_frames" / split
        layout = "VISOR's layout"
        if not is_folder(self._frames, layout):
            # The published archive unpacks either way.
            self._frames = root / "rgb_frames" / split
        for folder in (self._annotations, self._frames):
            if not is_folder(folder, layout):
                remedy = "check --root and --split"
                raise InputError(folder, "no such folder", layout, remedy, missing=True)
        self._mapping = self._read_mapping(sparse)
        self._narrations = self._read_narrations()
        self._ids = tuple(sorted(self._narrations))

    def video_ids(self) -> Sequence[str]:
        """Ids of narrations in sorted order; frames are listed, no annotation is read."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """The annotated frames in the narration's span."""
        narration = self._narration(video_id)
        folder = self._frames / narration.video.split("_")[0] / narration.video
        areas = self.within(self._frames)
        return video_from_folder(video_id, folder, areas, narration.frames)

    def sources(self, video_id: str) -> VideoSources:
        """The annotated frames in the narration's span, and the file of their annotation."""
        narration = self._narration(video_id)
        folder = self._frames / narration.video.split("_")[0] / narration.video
        frames = tuple(folder / f"{name}.jpg" for name in narration.frames)
        return VideoSources(
            narration.frames, frames, (self._annotations / f"{narration.video}.json",)
        )

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """One an object that two or more of the frames show, ordered by its name.

        Raises:
            InputError: the annotations are missing or malformed.
        """
        narration = self._narration(video_id)
        annotated = self._entities(narration.video)
        seen: dict[str, int] = defaultdict(int)
        for frame in narration.frames:
            for name, segments in annotated.get(frame, {}).items():
                seen[name] += any(segments)
        names = sorted(name for name, count in seen.items() if count >= MINIMUM_FRAMES)
        source = self._annotations / f"{narration.video}.json"
        return [
            Expression(
                key=SampleKey(self.name, self.split, video_id, str(number)),
                text=checked_sentence(
                    f"{name} used in the action of {narration.text}", source, f"object {name}"
                ),
                object_ids=(name,),
            )
            for number, name in enumerate(names)
        ]

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask of the object [1, H, W]; None where the frame has no annotation."""
        entities = self._entities(self._narration(video.id).video).get(video.frames[index])
        if entities is None:
            return None
        (name,) = expression.object_ids
        return fill_polygons(entities.get(name, []), video.height, video.width)[None]

    def _narration(self, video_id: str) -> _Narration:
        if video_id not in self._narrations:
            raise InputError(
                self._annotations,
                f"no narration {video_id!r} with {MINIMUM_FRAMES} annotated frames",
                f"one of {len(self._ids)}",
                "check the id",
            )
        return self._narrations[video_id]

    def _entities(self, video: str) -> dict[str, dict[str, Segments]]:
        return _entities_by_frame(
            self.checked(spelled(self._annotations, f"{video}.json"), self._annotations)
        )

    def _read_mapping(self, sparse: Path) -> dict[str, Any]:
        """Video -> name of a frame of VISOR -> name of the frame of EPIC-KITCHENS."""
        places = [self.root / _MAPPING, sparse / _MAPPING]
        found = next((path for path in places if status(path, _MAPPING_LAYOUT)), None)
        if found is None:
            raise InputError(
                places[0],
                "no such file",
                f"VISOR's {_MAPPING}, without which narrations would be matched with wrong frames",
                "take it from VISOR's download, and put it into the root",
                missing=True,
            )
        self._mapping_path = self.checked(found)
        return read_json_object(found, _MAPPING_LAYOUT)

    def _epic_numbers(self, video: str) -> dict[str, int]:
        """Name of a frame of VISOR without suffix -> its number in EPIC-KITCHENS."""
        path, what = self._mapping_path, f"the frames of {video}"
        if video not in self._mapping:
            logger.warning("%s: nothing of %s; its narrations are left out", path, video)
            return {}
        numbers = {}
        for name, value in object_at(self._mapping[video], path, what, _MAPPING_LAYOUT).items():
            match = _NUMBER.search(value) if isinstance(value, str) else None
            if match is None:
                raise InputError(
                    path, f"{name} of {video} is {value!r:.80}", _MAPPING_LAYOUT, "restore the file"
                )
            numbers[Path(name).stem] = int(match[1])
        return numbers

    def _read_narrations(self) -> dict[str, _Narration]:
        paths = [self.root / name for name in NARRATIONS]
        found = [self.checked(path) for path in paths if status(path, _NARRATIONS_LAYOUT)]
        if not found:
            raise InputError(
                paths[0],
                "no such file",
                _NARRATIONS_LAYOUT,
                "put the narrations of EPIC-KITCHENS-100 into the root",
                missing=True,
            )
        files = names_in(self._annotations, "a JSON file a video")
        videos = [Path(name).stem for name in files if Path(name).suffix.lower() == ".json"]
        frames = {video: self._annotated_frames(video) for video in videos}
        result = {}
        for path in found:
            for row in _narration_rows(path):
                video = row["video_id"]
                if video not in frames:
                    continue
                numbers, names = frames[video]
                first = bisect_left(numbers, int(row["start_frame"]))
                last = bisect_right(numbers, int(row["stop_frame"]))
                if last - first >= MINIMUM_FRAMES:
                    name = safe_name(row["narration_id"], path, "narration id")
                    result[name] = _Narration(video, row["narration"], tuple(names[first:last]))
        return result

    def _annotated_frames(self, video: str) -> tuple[list[int], list[str]]:
        """Numbers in EPIC-KITCHENS and names of the frame files of a video, by number."""
        names, numbers = self._frame_names(video), self._epic_numbers(video)
        if numbers and (unknown := [name for name in names if name not in numbers]):
            logger.warning(
                "%s: does not have %d of the %d frames of %s, such as %s; they are left out",
                self._mapping_path,
                len(unknown),
                len(names),
                video,
                unknown[0],
            )
        numbered = sorted((numbers[name], name) for name in names if name in numbers)
        return [number for number, _ in numbered], [name for _, name in numbered]

    def _frame_names(self, video: str) -> list[str]:
        """Names of the frame files of a video, or, where they cannot be listed, of its annotation.

        So the narrations keep their ids, and each is skipped when its frames are asked for.
        """
        folder = self._frames / video.split("_")[0] / video
        try:
            files = names_in(folder, f"the frames of {video}")
        except InputError as error:
            logger.warning("%s; its narrations are skipped", error)
        else:
            frames = (Path(name) for name in files)
            return [path.stem for path in frames if path.suffix.lower() in SUFFIXES]
        try:
            return [name for name in self._entities(video) if is_safe_name(name)]
        except InputError as error:
            logger.warning("%s; its narrations are left out", error)
            return []


def fill_polygons(segments: Segments, height: int, width: int) -> NDArray[np.bool_]:
    """The mask [H, W] of an entity's polygons, filled together by the even-odd rule.

    A polygon inside another is a hole. One without points paints nothing.
    """
    contours = [np.array(points, dtype=np.float64) for points in segments if len(points)]
    mask = np.zeros((height, width), dtype=np.uint8)
    if contours:
        cv2.fillPoly(mask, [contour.astype(np.int32) for contour in contours], 1)
    return mask.astype(bool)


@lru_cache(maxsize=2)
def _entities_by_frame(path: Path) -> dict[str, dict[str, Segments]]:
    """Frame name -> object name -> all of its polygons in that frame."""
    rows = read_json_object(path, _MASKS_LAYOUT).get("video_annotations")
    result: dict[str, dict[str, Segments]] = {}
    for number, row in enumerate(list_at(rows, path, "video_annotations", _MASKS_LAYOUT)):
        what = f"annotation {number}"
        entry = object_at(row, path, what, _MASKS_LAYOUT)
        image = object_at(entry.get("image"), path, f"image of {what}", _MASKS_LAYOUT)
        name = Path(str(image.get("name"))).stem
        entities = result.setdefault(name, {})
        for item in list_at(entry.get("annotations"), path, what, _MASKS_LAYOUT):
            entity = object_at(item, path, what, _MASKS_LAYOUT)
            segments = list_at(entity.get("segments"), path, f"segments of {name}", _MASKS_LAYOUT)
            entities.setdefault(str(entity.get("name")), []).extend(
                _checked_points(points, path, name) for points in segments
            )
    return result


def _checked_points(points: object, path: Path, frame: str) -> list[Any]:
    checked = list_at(points, path, f"a polygon of {frame}", _MASKS_LAYOUT)
    try:
        array = np.array(checked, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty((1, 0))
    if checked and (array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all()):
        raise InputError(
            path, f"a polygon of {frame} is no list of points", "[[x, y], ...]", "fix it"
        )
    return checked


def _narration_rows(path: Path) -> list[dict[str, str]]:
    rows = read_csv_rows(path, _NARRATIONS_LAYOUT)
    header = rows[0] if rows else []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise InputError(
            path, f"no column {', '.join(missing)}", _NARRATIONS_LAYOUT, "restore the file"
        )
    places = {name: header.index(name) for name in _COLUMNS}
    result = []
    for number, row in enumerate(rows[1:], start=2):
        values = {name: row[place].strip() for name, place in places.items() if place < len(row)}
        spans = (values.get("start_frame", ""), values.get("stop_frame", ""))
        if len(values) < len(_COLUMNS) or not all(map(is_number, spans)):
            raise InputError(
                path, f"row {number} is {str(row)[:200]}", _NARRATIONS_LAYOUT, "fix the row"
            )
        result.append(values)
    return result
