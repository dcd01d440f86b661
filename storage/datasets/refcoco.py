"""RefCOCO, RefCOCO+ (Yu et al. 2016) and RefCOCOg (Mao et al. 2016): images as videos of one frame.

::

    <root>/<name>/refs(<by>).p              a pickle: [{ref_id, ann_id, image_id, split,
                                            sentences: [{sent_id, sent}]}]
    <root>/<name>/instances.json            COCO: images, and annotations with polygons or RLEs
    <root>/images/mscoco/images/train2014/<file>    or <root>/images/train2014, <root>/train2014

``<name>`` is ``refcoco``, ``refcoco+`` or ``refcocog``; ``<by>`` is who made the splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.coco import decode_rle, polygon_mask
from pipeline.config import Links
from pipeline.errors import InputError, PseudoLabelError
from pipeline.types import Expression, FrameIndex, SampleKey, VideoRef, VideoSources
from storage.datasets.base import MaskedReader
from storage.datasets.files import is_folder
from storage.datasets.sentences import checked_sentence
from storage.files.images import MAX_PIXELS, image_size
from storage.files.json_files import list_at, object_at, read_json_object
from storage.files.listing import spelled
from storage.files.names import safe_name
from storage.files.pickles import read_plain_pickle

IMAGES = ("images/mscoco/images/train2014", "images/train2014", "train2014")
"""Where the images of COCO's train2014 are looked for; the first is the usual one."""

_REFS_LAYOUT = "a pickle: [{ref_id, ann_id, image_id, split, sentences: [{sent_id, sent}]}]"
_INSTANCES_LAYOUT = (
    "COCO instances: images with id, file_name, height, width; annotations with id, segmentation"
)


@dataclass(frozen=True)
class _Picture:
    """An image: its file, its size and its sentences, (id, text, annotation)."""

    file: str
    height: int
    width: int
    sentences: list[tuple[int, Any, int]]


class RefCOCO(MaskedReader):
    """Reader of RefCOCO, RefCOCO+ and RefCOCOg.

    A video is an image, whose one frame it is; its id is the name of the image's file. An
    expression's id is its ``sent_id``.

    Args:
        root: holds a folder for each of the three, and the images.
        split: ``train``, ``val``, and ``testA`` and ``testB`` or ``test``.
        links: as of :class:`MaskedReader`.
        name: of the data set in sample keys.
        folder: of its annotation.
        by: who made the splits.

    Raises:
        InputError: a file is missing or malformed, or no image is of the split.
    """

    def __init__(
        self, root: Path, split: str, links: Links = "follow", *, name: str, folder: str, by: str
    ) -> None:
        super().__init__(name, root, split, links)
        self._refs_path = root / folder / f"refs({by}).p"
        self._instances_path = root / folder / "instances.json"
        refs = self._refs_of_split()
        expected = "the images of COCO's train2014"
        places = [root / place for place in IMAGES]
        self._images = next((item for item in places if is_folder(item, expected)), places[0])
        self._segmentations: dict[int, Any] = {}
        self._pictures = self._pictures_of(refs)
        self._ids = tuple(sorted(self._pictures))

    def video_ids(self) -> Sequence[str]:
        """Ids in sorted order; no image is opened."""
        return self._ids

    def _video(self, video_id: str) -> VideoRef:
        """The image as a video of one frame. Raises InputError if it is missing or broken."""
        picture = self._picture(video_id)
        path = self.checked(self._path(picture), self._images)
        return VideoRef(video_id, (video_id,), (path,), *image_size(path))

    def _annotated_video(self, video_id: str) -> VideoRef:
        """The image as its annotation describes it."""
        picture = self._picture(video_id)
        path = self._path(picture)
        return VideoRef(video_id, (video_id,), (path,), picture.height, picture.width)

    def sources(self, video_id: str) -> VideoSources:
        """The image, and the file of all annotations."""
        path = self._path(self._picture(video_id))
        return VideoSources((video_id,), (path,), (self._instances_path,))

    def expressions(self, video_id: str) -> Sequence[Expression]:
        """The sentences of an image, by id. Raises InputError if one is empty or too long."""
        return [
            Expression(
                key=SampleKey(self.name, self.split, video_id, str(number)),
                text=checked_sentence(
                    text, self._refs_path, f"sentence {number} of image {video_id}"
                ),
                object_ids=(str(annotation),),
            )
            for number, text, annotation in sorted(self._picture(video_id).sentences)
        ]

    def object_masks(
        self, video: VideoRef, expression: Expression, index: FrameIndex
    ) -> NDArray[np.bool_] | None:
        """The mask of the annotation [1, H, W]."""
        (name,) = expression.object_ids
        what, size = f"annotation {name}", (video.height, video.width)
        segmentation = self._segmentations[int(name)]
        try:
            if isinstance(segmentation, list):
                return polygon_mask(segmentation, *size)[None]
            mask = decode_rle(segmentation)
        except PseudoLabelError as error:
            raise InputError(
                self._instances_path, f"{what}: {error}", _INSTANCES_LAYOUT, "restore the file"
            ) from error
        if mask.shape != size:
            raise InputError(
                self._instances_path,
                f"{what} has {mask.shape[0]} x {mask.shape[1]} pixels",
                f"{size[0]} x {size[1]}, as the image",
                "restore the file, or the image",
            )
        return mask[None]

    def _picture(self, video_id: str) -> _Picture:
        if video_id not in self._pictures:
            raise InputError(
                self._refs_path,
                f"no image {video_id!r:.80} in split {self.split}",
                f"one of the {len(self._ids)} images of the split",
                "check the id",
            )
        return self._pictures[video_id]

    def _path(self, picture: _Picture) -> Path:
        return spelled(self._images, picture.file)

    def _refs_of_split(self) -> list[dict[str, Any]]:
        """What is said of objects of the split."""
        path, remedy = self.checked(self._refs_path), "check --root"
        document = read_plain_pickle(path, _REFS_LAYOUT, remedy)
        refs = [
            object_at(item, path, f"item {number}", _REFS_LAYOUT)
            for number, item in enumerate(list_at(document, path, "the file", _REFS_LAYOUT))
        ]
        found = [item for item in refs if item.get("split") == self.split]
        if not found:
            splits = sorted({str(item.get("split"))[:40] for item in refs})
            raise InputError(
                path,
                f"split {self.split!r}",
                f"one of {', '.join(splits)}",
                "check --split",
                missing=True,
            )
        return found

    def _pictures_of(self, refs: Sequence[Mapping[str, Any]]) -> dict[str, _Picture]:
        """The images of a split by id; keeps the masks of their objects too."""
        images, segmentations = self._instances()
        pictures: dict[str, _Picture] = {}
        for number, ref in enumerate(refs):
            what = f"item {number} of split {self.split}"
            image, annotation = ref.get("image_id"), ref.get("ann_id")
            known = type(image) is int and type(annotation) is int
            if not known or image not in images or annotation not in segmentations:
                raise InputError(
                    self._refs_path,
                    f"{what} is of image {image!r:.40}, annotation {annotation!r:.40}",
                    f"ids that are in {self._instances_path}",
                    "take both files from one download",
                )
            picture = images[image]
            name = safe_name(PurePosixPath(picture.file).stem, self._instances_path, "image")
            self._segmentations[annotation] = segmentations[annotation]
            if pictures.setdefault(name, picture) is not picture:
                raise InputError(
                    self._instances_path, f"two images {name}", _INSTANCES_LAYOUT, "rename one"
                )
            for said in list_at(ref.get("sentences"), self._refs_path, what, _REFS_LAYOUT):
                item = object_at(said, self._refs_path, f"a sentence of {what}", _REFS_LAYOUT)
                if type(item.get("sent_id")) is not int:
                    raise InputError(
                        self._refs_path, f"a sentence of {what} has no id", _REFS_LAYOUT, "fix it"
                    )
                picture.sentences.append((item["sent_id"], item.get("sent"), annotation))
        return pictures

    def _instances(self) -> tuple[dict[int, _Picture], dict[int, Any]]:
        """Image by id, and segmentation by id of its annotation."""
        path = self.checked(self._instances_path)
        document = read_json_object(path, _INSTANCES_LAYOUT)
        rows = {
            key: [
                object_at(row, path, f"a row of {key}", _INSTANCES_LAYOUT)
                for row in list_at(document.get(key), path, key, _INSTANCES_LAYOUT)
            ]
            for key in ("images", "annotations")
        }
        images = {}
        for row in rows["images"]:
            size = [row[key] for key in ("height", "width") if type(row.get(key)) is int]
            if type(row.get("id")) is not int or len(size) < 2 or not _is_size(*size):
                raise InputError(
                    path, f"image {str(row)[:80]}", _INSTANCES_LAYOUT, "restore the file"
                )
            file = safe_name(row.get("file_name"), path, "file_name")
            images[row["id"]] = _Picture(file, size[0], size[1], [])
        found = {
            row["id"]: row.get("segmentation")
            for row in rows["annotations"]
            if type(row.get("id")) is int
        }
        return images, found


def _is_size(height: int, width: int) -> bool:
    return height > 0 and width > 0 and height * width <= MAX_PIXELS


open_refcoco = partial(RefCOCO, name="refcoco", folder="refcoco", by="unc")
open_refcoco_plus = partial(RefCOCO, name="refcoco+", folder="refcoco+", by="unc")
open_refcocog = partial(RefCOCO, name="refcocog", folder="refcocog", by="umd")
open_refcocog_google = partial(RefCOCO, name="refcocog-google", folder="refcocog", by="google")
