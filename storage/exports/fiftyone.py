"""Export to a video data set that FiftyOne opens: masks as ``frames.detections``.

FiftyOne's ``FiftyOneVideoLabelsDataset``, which can be written without FiftyOne::

    <out>/data/<video>.mp4       the frames, H.264
    <out>/labels/<video>.json    the detections of each frame
    <out>/manifest.json          which labels belong to which video
    <out>/export.json            says that this is an export

    fiftyone.Dataset.from_dir(
        dataset_dir=out,
        dataset_type=fiftyone.types.FiftyOneVideoLabelsDataset,
    )

A detection's label is the sentence, its confidence the weight, and its index the track: the number
of the expression in its video, from 1. Its attributes are the expression's id and the figures of
the quality table; its tag is what people decided about the sample.
"""

from __future__ import annotations

import io
import math
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.types import FrameIndex, VideoRef
from storage.exports.json_stream import JsonStream
from storage.exports.marked_folder import export_folder
from storage.exports.parquet import QUALITY_COLUMNS
from storage.exports.source import ExportReport, ExportSource, Quality, Target

FRAMES_PER_SECOND = 10
"""Of the videos; FiftyOne counts frames, so no label depends on it."""

_TYPES = "eta.core"


def export_fiftyone(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store or the quality table does not fit.
    """
    report = ExportReport()
    with export_folder(out, "fiftyone") as folder:
        (folder / "data").mkdir()
        (folder / "labels").mkdir()
        quality = source.quality_by_video()
        manifest = folder / "manifest.json"
        with manifest.open("w", encoding="utf-8") as file, JsonStream(file) as stream:
            stream.value("type", f"{_TYPES}.datasets.LabeledVideoDataset")
            stream.value("description", source.title)
            stream.begin("index", "[")
            for video in source.videos(report):
                data, labels = f"data/{video.id}.mp4", f"labels/{video.id}.json"
                _write_video(source, video, folder / data)
                rows = quality.of(video.id)
                report.add("masks", _write_labels(source, video, rows, folder / labels))
                stream.item({"data": data, "labels": labels})
                report.add("videos")
                report.add("frames", len(video))
            stream.end()
    return report


def _write_video(source: ExportSource, video: VideoRef, path: Path) -> None:
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        stream: Any = file.add_stream("libx264", FRAMES_PER_SECOND, options={"crf": "18"})
        # H.264 needs even sides. Boxes are shares of the sides, so they stay where they are.
        stream.width, stream.height = (side + side % 2 for side in (video.width, video.height))
        stream.pix_fmt = "yuv420p"
        for index in range(len(video)):
            pixels = np.ascontiguousarray(source.reader.frame(video, FrameIndex(index)))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _write_labels(source: ExportSource, video: VideoRef, rows: Quality, path: Path) -> int:
    """Writes the labels of a video. Returns the number of masks."""
    count = 0
    with path.open("w", encoding="utf-8") as file, JsonStream(file) as stream:
        stream.begin("frames", "{")
        for frame in range(len(video)):
            found = list(_detections(source, video, rows, frame))
            count += len(found)
            # FiftyOne counts frames from 1.
            labels = {"frame_number": frame + 1, "objects": {"objects": found}}
            stream.item(labels, key=str(frame + 1))
        stream.end()
    return count


def _detections(
    source: ExportSource, video: VideoRef, rows: Quality, frame: int
) -> Iterator[dict[str, Any]]:
    for track, target in enumerate(source.targets(video.id, frame), start=1):
        if not target.shown:
            continue
        x, y, width, height = target.box
        corners = ((x, y), (x + width, y + height))
        names = ("top_left", "bottom_right")
        yield {
            "label": target.text,
            "bounding_box": {
                name: {"x": across / video.width, "y": down / video.height}
                for name, (across, down) in zip(names, corners, strict=True)
            },
            "mask": _packed(target.mask[y : y + height, x : x + width]),
            "confidence": round(target.weight, 6),
            "index": track,
            "tags": [tag] if (tag := source.tags.get((video.id, target.expression))) else [],
            "attrs": {"attrs": list(_attributes(target, rows, frame))},
        }


def _attributes(target: Target, rows: Quality, frame: int) -> Iterator[dict[str, Any]]:
    kind = f"{_TYPES}.data"
    yield {
        "type": f"{kind}.CategoricalAttribute",
        "name": "expression",
        "value": target.expression,
    }
    row = rows.get((target.expression, frame))
    if row is None:
        return
    for name in QUALITY_COLUMNS:
        value = float(getattr(row, name))
        if math.isfinite(value):
            yield {"type": f"{kind}.NumericAttribute", "name": name, "value": round(value, 6)}


def _packed(mask: NDArray[np.bool_]) -> str:
    """Returns a mask [h, w] within its box as FiftyOne stores arrays: NumPy's file, compressed."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(mask), allow_pickle=False)
    return b64encode(zlib.compress(buffer.getvalue())).decode("ascii")
