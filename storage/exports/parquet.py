"""Export to one Parquet table: a row a frame of a sample, its mask as COCO RLE, its quality.

``mask`` is null where the frame shows none. A row group is a video.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.coco import encode_rle
from pipeline.types import QUALITY_FIGURES, VideoRef
from storage.exports.source import ExportReport, ExportSource, Quality
from storage.files.atomic import replace_file

QUALITY_COLUMNS = tuple(name for name in QUALITY_FIGURES if name != "weight")
"""What follows a row's weight, status and reason."""

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("video", pa.string()),
        ("expression", pa.string()),
        ("text", pa.string()),
        ("frame", pa.int32()),
        ("frame_name", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("mask", pa.string()),
        ("area", pa.int64()),
        ("weight", pa.float32()),
        ("status", pa.int8()),
        ("reason", pa.string()),
        *((name, pa.float64()) for name in QUALITY_COLUMNS),
    ]
)
"""``mask`` is the ``counts`` of a compressed COCO RLE of size [height, width]."""


def export_parquet(source: ExportSource, out: Path) -> ExportReport:
    """Writes the table.

    Raises:
        StoreError: there are no masks, or the store or the quality table does not fit.
    """
    report, quality = ExportReport(), source.quality_by_video()
    with (
        replace_file(out) as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
    ):
        for video in source.videos(report):
            rows = _rows(source, video, quality.of(video.id))
            if rows:
                table = pa.Table.from_pylist(rows, schema=SCHEMA)
                writer.write_table(table, row_group_size=len(rows))
            report.add("videos")
            report.add("rows", len(rows))
            report.add("masks", sum(row["mask"] is not None for row in rows))
    return report


def _rows(source: ExportSource, video: VideoRef, quality: Quality) -> list[dict[str, Any]]:
    rows = []
    texts = source.store.texts(video.id)
    for text, expression in zip(texts, source.store.expressions(video.id), strict=True):
        for frame, name in enumerate(video.frames):
            mask, weight, status = source.mask(video.id, expression, frame)
            measured = quality.get((expression, frame))
            row = {
                "dataset": source.reader.name,
                "split": source.reader.split,
                "video": video.id,
                "expression": expression,
                "text": text,
                "frame": frame,
                "frame_name": name,
                "height": video.height,
                "width": video.width,
                "mask": encode_rle(mask)["counts"] if mask.any() else None,
                "area": int(mask.sum()),
                "weight": weight,
                "status": status,
                "reason": None if measured is None else measured.reason,
            }
            for column in QUALITY_COLUMNS:
                row[column] = None if measured is None else getattr(measured, column)
            rows.append(row)
    return rows
