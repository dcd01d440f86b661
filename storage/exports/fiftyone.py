"""Export to a folder that FiftyOne opens, masks as overlays and quality as attributes.

FiftyOne's ``COCODetectionDataset``, a documented format that needs no FiftyOne to be written::

    <out>/data/<video>/<frame>.jpg     links to the data set's frames, or copies
    <out>/labels.json                  COCO: an image a frame, an annotation a mask
    <out>/export.json                  says that this is an export

    fiftyone.Dataset.from_dir(
        dataset_dir=out,
        dataset_type=fiftyone.types.COCODetectionDataset,
        label_types="segmentations",
    )

Every key of an annotation beyond COCO's becomes an attribute of the overlay: the sentence, its id,
the video, the frame, and the columns of the quality table.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline.coco import encode_rle
from pipeline.geometry import masks_to_boxes
from storage.exports.json_stream import JsonStream
from storage.exports.marked_folder import export_folder
from storage.exports.parquet import QUALITY_COLUMNS
from storage.exports.source import ExportReport, ExportSource, Quality, place_frame

LABELS = "labels.json"
CATEGORIES = [{"id": 1, "name": "pseudo-mask", "supercategory": "object"}]


def export_fiftyone(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store or the quality table does not fit.
    """
    report, reader = ExportReport(), source.reader
    with export_folder(out, "fiftyone") as folder:
        first_image: dict[str, int] = {}
        with (folder / LABELS).open("w", encoding="utf-8") as file, JsonStream(file) as stream:
            stream.value("info", {"description": f"pseudo-masks of {reader.name} {reader.split}"})
            stream.value("licenses", [])
            stream.value("categories", CATEGORIES)
            stream.begin("images", "[")
            image = 1
            for video in source.videos(report):
                first_image[video.id] = image
                place = folder / "data" / video.id
                place.mkdir(parents=True)
                for frame, name in enumerate(video.frames):
                    place_frame(reader, video, frame, place / f"{name}.jpg")
                    entry = {"id": image, "file_name": f"{video.id}/{name}.jpg"}
                    stream.item(entry | {"height": video.height, "width": video.width})
                    image += 1
                report.add("videos")
                report.add("images", len(video))
            stream.end()
            _write_annotations(source, stream, first_image, report)
    return report


def _write_annotations(
    source: ExportSource, stream: JsonStream, first_image: dict[str, int], report: ExportReport
) -> None:
    quality, annotation = source.quality_by_video(), 0
    stream.begin("annotations", "[")
    for video_id, first in first_image.items():
        rows, texts = quality.of(video_id), source.store.texts(video_id)
        for text, expression in zip(texts, source.store.expressions(video_id), strict=True):
            for frame, name in enumerate(source.store.frames(video_id)):
                found = _annotation(source, video_id, expression, frame)
                if found is None:
                    continue
                annotation += 1
                head = {"id": annotation, "image_id": first + frame, "category_id": 1, "iscrowd": 0}
                about = {"video": video_id, "frame": name, "expression": expression, "text": text}
                stream.item(head | found | about | _figures(rows, expression, frame))
                report.add("masks")
    stream.end()


def _annotation(
    source: ExportSource, video_id: str, expression: str, frame: int
) -> dict[str, Any] | None:
    mask, weight, _ = source.mask(video_id, expression, frame)
    if not mask.any():
        return None
    x0, y0, x1, y1 = masks_to_boxes(mask).tolist()
    return {
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(mask.sum()),
        "segmentation": encode_rle(mask),
        "weight": round(weight, 6),
    }


def _figures(rows: Quality, expression: str, frame: int) -> dict[str, float]:
    """The row's figures; those that are no number are left out, as JSON has none."""
    row = rows.get((expression, frame))
    if row is None:
        return {}
    values = {name: float(getattr(row, name)) for name in QUALITY_COLUMNS}
    return {name: round(value, 6) for name, value in values.items() if math.isfinite(value)}
