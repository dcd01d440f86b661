"""Export to a folder that ``datasets.load_dataset(folder)`` loads, with a dataset card.

::

    <out>/README.md                       the card: what the masks are, what made them, figures
    <out>/data/<split>-00000.parquet      a row a frame: image, and its targets
    <out>/export.json                     says that this is an export

``image`` and ``mask`` are structs {bytes, path}, which ``datasets`` gives as PIL images. Columns:
``dataset``, ``video``, ``frame``, ``frame_name``, ``image``, ``targets``: a list of ``expression``,
``text``, ``mask`` (null without one), ``weight``, ``status`` (0 unknown, 1 present, 2 absent),
``reason``, and the figures of the quality table.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.types import Status, VideoRef
from storage.exports.marked_folder import export_folder
from storage.exports.parquet import QUALITY_COLUMNS
from storage.exports.source import ExportReport, ExportSource, Quality, frame_jpeg
from storage.files.images import png_of

GROUP_BYTES, FILE_BYTES = 32_000_000, 500_000_000
"""Images in a row group, which memory holds, and in a file."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TARGET = pa.struct(
    [
        ("expression", pa.string()),
        ("text", pa.string()),
        ("mask", _IMAGE),
        ("weight", pa.float32()),
        ("status", pa.int8()),
        ("reason", pa.string()),
        *((name, pa.float64()) for name in QUALITY_COLUMNS),
    ]
)
_COLUMNS = [
    ("dataset", pa.string()),
    ("video", pa.string()),
    ("frame", pa.int32()),
    ("frame_name", pa.string()),
    ("image", _IMAGE),
    ("targets", pa.list_(_TARGET)),
]


def export_hf(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store or the quality table does not fit.
    """
    report, split = ExportReport(), re.sub(r"\W+", "_", source.reader.split)
    counts, weights = Counter[int](), 0.0
    with export_folder(out, "hf") as folder:
        writer, quality = _Files(folder / "data", split), source.quality_by_video()
        for video in source.videos(report):
            for row in _rows(source, video, quality.of(video.id)):
                writer.add(row)
                counts.update(item["status"] for item in row["targets"])
                weights += sum(item["weight"] for item in row["targets"] if item["mask"])
            report.add("videos")
            report.add("rows", len(video))
        writer.close()
        report.add("masks", counts[Status.PRESENT])
        text = card(source, report.counts, counts, weights, split)
        (folder / "README.md").write_text(text, encoding="utf-8")
    return report


def card(
    source: ExportSource,
    written: Mapping[str, int],
    counts: Mapping[int, int],
    weights: float,
    split: str,
) -> str:
    """Returns the dataset card.

    Args:
        written: figures of the export.
        counts: status -> number of frames of a sentence.
        weights: sum of the weights of the masks.
    """
    lines = _front(f"{source.reader.name} {source.reader.split}", split)
    if source.warning:
        lines.append(f"\n**{source.warning}**")
    lines += ["\n## Content\n", "| what | number |", "|---|---|"]
    lines += [f"| {what} | {count} |" for what, count in written.items()]
    lines += [
        f"| sentences in frames: {status.name.lower()} | {counts[status]} |" for status in Status
    ]
    if counts[Status.PRESENT]:
        lines.append(f"| mean weight of a mask | {weights / counts[Status.PRESENT]:.3f} |")
    lines += [
        "\nTrain on `absent` frames as background, and leave `unknown` frames out. `weight` says"
        " how much to trust a mask.",
        "\n## Provenance\n",
        "Made with pseudolabels. The licences of the data set and of the models apply.\n",
        *(f"- {stage}: `{model}`" for stage, model in source.models.items()),
        "\n## Against ground truth\n",
    ]
    lines += [f"- {figure}: {value:.1f} %" for figure, value in source.metrics.items()] or [
        "The masks were not measured: the data set has no ground truth, or the run no metrics."
    ]
    return "\n".join(lines) + "\n"


def _front(name: str, split: str) -> list[str]:
    """Returns the lines that `datasets` reads, and the title."""
    return [
        "---",
        f"pretty_name: {json.dumps(f'Pseudo-masks of {name}')}",
        "task_categories:\n- image-segmentation",
        "tags:\n- referring-video-segmentation\n- pseudo-labels",
        f"configs:\n- config_name: default\n  data_files:\n  - split: {split}",
        f"    path: data/{split}-*.parquet",
        "---",
        f"# Pseudo-masks of {name}\n",
        "The masks were made by models from videos and sentences.",
    ]


class _Files:
    """Parquet files of limited size.

    Args:
        folder: that holds them.
        split: first part of their names.
    """

    def __init__(self, folder: Path, split: str) -> None:
        folder.mkdir()
        self._folder, self._split = folder, split
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None
        self._number = self._waiting = self._written = 0

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        self._rows.append(row)
        self._waiting += len(row["image"]["bytes"])
        self._waiting += sum(len(item["mask"]["bytes"]) for item in row["targets"] if item["mask"])
        if self._waiting >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes the rest. Without any row, there is one file without rows."""
        if self._rows or not self._number:
            self._flush()
        self._end()

    def _flush(self) -> None:
        if self._writer is None or self._written >= FILE_BYTES:
            self._end()
            path = self._folder / f"{self._split}-{self._number:05}.parquet"
            self._writer = pq.ParquetWriter(path, SCHEMA, compression="none")
            self._number, self._written = self._number + 1, 0
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SCHEMA))
        self._written += self._waiting
        self._rows, self._waiting = [], 0

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _rows(source: ExportSource, video: VideoRef, quality: Quality) -> Iterator[dict[str, Any]]:
    for frame, name in enumerate(video.frames):
        targets = []
        for target in source.targets(video.id, frame):
            measured = quality.get((target.expression, frame))
            place = f"{video.id}/{target.expression}/{name}.png"
            mask = {"bytes": png_of(target.mask), "path": place} if target.shown else None
            row = {
                "expression": target.expression,
                "text": target.text,
                "mask": mask,
                "weight": target.weight,
                "status": target.status,
                "reason": None if measured is None else measured.reason,
            }
            for column in QUALITY_COLUMNS:
                row[column] = None if measured is None else getattr(measured, column)
            targets.append(row)
        image = {"bytes": frame_jpeg(source.reader, video, frame), "path": f"{video.id}/{name}.jpg"}
        yield {
            "dataset": source.reader.name,
            "video": video.id,
            "frame": frame,
            "frame_name": name,
            "image": image,
            "targets": targets,
        }


def _features() -> dict[str, Any]:
    """Returns what ``datasets`` reads of the schema: which columns are images."""

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    image = {"_type": "Image"}
    target: dict[str, Any] = {
        "expression": value("string"),
        "text": value("string"),
        "mask": image,
        "weight": value("float32"),
        "status": value("int8"),
        "reason": value("string"),
        **{name: value("float64") for name in QUALITY_COLUMNS},
    }
    return {
        "dataset": value("string"),
        "video": value("string"),
        "frame": value("int32"),
        "frame_name": value("string"),
        "image": image,
        "targets": {"feature": target, "_type": "List"},
    }


SCHEMA = pa.schema(
    _COLUMNS, metadata={"huggingface": json.dumps({"info": {"features": _features()}})}
)
