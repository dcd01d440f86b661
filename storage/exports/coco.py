"""Export to COCO's JSON of instances: an image a frame, an annotation a mask.

``pycocotools.COCO`` loads it, and trainers of instance segmentation read it. ``file_name`` is
``<video>/<frame>.jpg``, as the frames lie in the data set. Beside COCO's keys, an annotation has
the sentence, its id and the ``weight`` of the mask; an image has ``unknown``, the ids of the
expressions whose target may be in it without a mask. All masks are of the category ``object``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.coco import encode_rle
from pipeline.types import Status, VideoRef
from storage.datasets.frames import SUFFIXES
from storage.exports.json_stream import JsonStream
from storage.exports.source import ExportReport, ExportSource, Target
from storage.files.atomic import replace_file

CATEGORIES = [{"id": 1, "name": "object", "supercategory": "object"}]


def export_coco(source: ExportSource, out: Path) -> ExportReport:
    """Writes the JSON file.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report = ExportReport()
    with replace_file(out, "w") as file, JsonStream(file) as stream:
        stream.value("info", {"description": source.title})
        stream.value("licenses", [])
        stream.value("categories", CATEGORIES)
        stream.begin("images", "[")
        first_image: dict[str, int] = {}
        image = 1
        for video in source.videos(report):
            first_image[video.id] = image
            for frame in range(len(video)):
                stream.item(_image(source, video, frame, image))
                image += 1
            report.add("videos")
            report.add("images", len(video))
        stream.end()
        _write_annotations(source, stream, first_image, report)
    return report


def _write_annotations(
    source: ExportSource, stream: JsonStream, first_image: dict[str, int], report: ExportReport
) -> None:
    stream.begin("annotations", "[")
    # pycocotools takes the id 0 for no match.
    annotation = 1
    for video_id, first in first_image.items():
        for frame in range(len(source.store.frames(video_id))):
            for target in source.targets(video_id, frame):
                if target.shown:
                    stream.item(_annotation(target, annotation, first + frame))
                    annotation += 1
    stream.end()
    report.add("annotations", annotation - 1)


def _image(source: ExportSource, video: VideoRef, frame: int, number: int) -> dict[str, Any]:
    path, name = video.paths[frame], video.frames[frame]
    suffix = path.suffix if path.suffix.lower() in SUFFIXES else ".jpg"
    entry: dict[str, Any] = {
        "id": number,
        "file_name": f"{video.id}/{name}{suffix}",
        "height": video.height,
        "width": video.width,
    }
    unknown = [
        expression
        for expression in source.store.expressions(video.id)
        if source.store.quality(video.id, expression)[1][frame] == Status.UNKNOWN
    ]
    return entry | {"unknown": unknown} if unknown else entry


def _annotation(target: Target, number: int, image: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": list(target.box),
        "area": int(target.mask.sum()),
        "segmentation": encode_rle(target.mask),
        "expression": target.text,
        "expression_id": target.expression,
        "weight": round(target.weight, 6),
    }
