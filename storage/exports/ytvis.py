"""Export to YouTube-VIS's JSON: an annotation a sample, an RLE a frame.

``videos`` have ``file_names``; an annotation has ``segmentations``, ``bboxes`` (x, y, width, height
in pixels) and ``areas``, a value a frame and null where the frame shows no mask. Beside them stand
the sentence, its id, and each frame's ``weights`` and ``statuses`` (0 unknown, 1 present, 2
absent).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.coco import encode_rle
from pipeline.geometry import masks_to_boxes
from pipeline.types import VideoRef
from storage.datasets.frames import SUFFIXES
from storage.exports.json_stream import JsonStream
from storage.exports.source import ExportReport, ExportSource
from storage.files.atomic import replace_file

CATEGORIES = [{"id": 1, "name": "object", "supercategory": "object"}]


def export_ytvis(source: ExportSource, out: Path) -> ExportReport:
    """Writes the JSON file.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report = ExportReport()
    with replace_file(out, "w") as file, JsonStream(file) as stream:
        stream.value("info", {"description": source.title})
        stream.value("licenses", [])
        stream.value("categories", CATEGORIES)
        stream.begin("videos", "[")
        videos = {}
        for number, video in enumerate(source.videos(report), start=1):
            stream.item(_video_entry(number, video))
            videos[video.id] = number
            report.add("videos")
        stream.end()
        stream.begin("annotations", "[")
        annotation = 0
        for video_id, number in videos.items():
            texts = source.store.texts(video_id)
            for row, expression in enumerate(source.store.expressions(video_id)):
                annotation += 1
                entry = _annotation(source, video_id, expression)
                report.add("samples")
                report.add("masks", sum(area is not None for area in entry["areas"]))
                head = {"id": annotation, "video_id": number, "category_id": 1, "iscrowd": 0}
                stream.item(head | {"expression": texts[row]} | entry)
        stream.end()
    return report


def _video_entry(number: int, video: VideoRef) -> dict[str, Any]:
    return {
        "id": number,
        "name": video.id,
        "height": video.height,
        "width": video.width,
        "length": len(video),
        # Frames of a clip have the clip's one file; their names tell them apart.
        "file_names": [
            f"{video.id}/{name}{path.suffix if path.suffix.lower() in SUFFIXES else '.jpg'}"
            for name, path in zip(video.frames, video.paths, strict=True)
        ],
    }


def _annotation(source: ExportSource, video_id: str, expression: str) -> dict[str, Any]:
    height, width = source.store.size(video_id)
    entry: dict[str, Any] = {
        "expression_id": expression,
        "height": height,
        "width": width,
        "length": len(source.store.frames(video_id)),
        "segmentations": [],
        "bboxes": [],
        "areas": [],
        "weights": [],
        "statuses": [],
    }
    for frame in range(entry["length"]):
        mask, weight, status = source.mask(video_id, expression, frame)
        shown = bool(mask.any())
        x0, y0, x1, y1 = masks_to_boxes(mask).tolist()
        entry["segmentations"].append(encode_rle(mask) if shown else None)
        entry["bboxes"].append([x0, y0, x1 - x0, y1 - y0] if shown else None)
        entry["areas"].append(int(mask.sum()) if shown else None)
        entry["weights"].append(round(weight, 6))
        entry["statuses"].append(status)
    return entry
