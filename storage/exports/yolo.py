"""Export to YOLO's segmentation layout, which Ultralytics trains from.

::

    <out>/data.yaml                               classes: each distinct sentence is one
    <out>/images/<split>/<video>/<frame>.jpg
    <out>/labels/<split>/<video>/<frame>.txt      a line an instance: class x1 y1 x2 y2 …, in [0, 1]
    <out>/export.json                             says that this is an export

YOLO's labels have outlines only: holes are filled, and the parts of a mask are joined by lines
without width. A frame without a target has an empty label file and teaches background, so frames
in which a sentence is unknown are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.types import Status, VideoRef
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport, ExportSource, place_frame

_SMALLEST = 3
"""Points of an outline."""


def export_yolo(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report, split = ExportReport(), re.sub(r"\W+", "_", source.reader.split)
    classes: dict[str, int] = {}
    with export_folder(out, "yolo") as folder:
        for video in source.videos(report):
            _write_video(source, video, folder, split, classes, report)
            report.add("videos")
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        text = _data_yaml(split, list(classes), source.title)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
    report.add("classes", len(classes))
    left_out = report.counts.pop("frames left out", 0)
    if left_out:
        report.notes.append(
            f"{left_out} frames were left out: a sentence is unknown in them, and they would teach"
            " that it is absent"
        )
    report.notes.append(
        "data.yaml names the same images for training and validation; export another split for the"
        " validation"
    )
    return report


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the outline of a mask [H, W] as points [n, 2], x and y in pixels.

    The outlines of its parts are joined by lines there and back. n is 0 for an empty mask. Holes
    are filled. A part of a pixel or a line becomes a triangle.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = [part[:, 0].astype(np.float64) for part in found]
    parts.sort(key=len, reverse=True)
    joined = np.zeros((0, 2))
    for part in parts:
        closed = np.concatenate([part, part[:1]])
        while len(closed) < _SMALLEST:
            closed = np.concatenate([closed, part[:1]])
        joined = _join(joined, closed) if len(joined) else closed
    return joined


def _join(outline: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns an outline with another one inserted at the point that is nearest to its first."""
    place = int(((outline - part[0]) ** 2).sum(1).argmin())
    start = int(((part - outline[place]) ** 2).sum(1).argmin())
    turned = np.concatenate([part[start:], part[1 : start + 1]])
    return np.concatenate([outline[: place + 1], turned, outline[place:]])


def _write_video(
    source: ExportSource,
    video: VideoRef,
    folder: Path,
    split: str,
    classes: dict[str, int],
    report: ExportReport,
) -> None:
    images, labels = (folder / kind / split / video.id for kind in ("images", "labels"))
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for frame, name in enumerate(video.frames):
        targets = list(source.targets(video.id, frame))
        for target in targets:
            classes.setdefault(_class(target.text), len(classes))
        if any(target.status == Status.UNKNOWN for target in targets):
            report.add("frames left out")
            continue
        lines = [
            _line(classes[_class(target.text)], outline(target.mask), video)
            for target in targets
            if target.shown
        ]
        place_frame(source, video, frame, images / f"{name}.jpg")
        (labels / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
        report.add("images")
        report.add("instances", len(lines))


def _class(text: str) -> str:
    return " ".join(text.split()).rstrip(" .")


def _line(number: int, points: NDArray[np.float64], video: VideoRef) -> str:
    # A pixel is the square from its number to the next one.
    shares = (points + 0.5) / (video.width, video.height)
    return " ".join([str(number), *(f"{share:.6f}" for share in shares.reshape(-1))]) + "\n"


def _data_yaml(split: str, classes: Sequence[str], title: str) -> str:
    """Returns the text. JSON's strings are YAML's too."""
    names = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
        for number, name in enumerate(classes)
    )
    return f"# {' '.join(title.split())}\ntrain: images/{split}\nval: images/{split}\n" + (
        f"names:\n{names}" if classes else "names: {}\n"
    )
