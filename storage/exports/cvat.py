"""Export to CVAT for video 1.1, so that people correct the masks.

::

    <out>/<video>/labels.json            the labels of a task, for the tab "Raw" of its constructor
    <out>/<video>/images/000000.jpg      its frames; their numbers are their order
    <out>/<video>/annotations.xml        its annotations, to be uploaded as "CVAT 1.1"
    <out>/export.json                    says that this is an export

CVAT reads and writes a mask as a track of its own, with a closing shape one frame later: it keeps
only the first mask of a longer track. What a mask belongs to is said by its label,
``<expression>: <sentence>``, and by the attribute ``video``, which masks that are drawn anew get
too. `pseudolabels import-masks` reads both back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, SubElement, tostring

from pipeline.types import VideoRef
from storage.corrections import VIDEO, label_of
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport, ExportSource, Target, place_frame
from storage.files.mask_runs import cvat_runs

LABEL_LETTERS = 64
"""The longest name of a label in CVAT."""


def export_cvat(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report = ExportReport()
    with export_folder(out, "cvat") as folder:
        for video in source.videos(report):
            images = folder / video.id / "images"
            images.mkdir(parents=True)
            for frame in range(len(video)):
                place_frame(source, video, frame, images / f"{frame:06}.jpg")
            labels = json.dumps(_labels(source, video), indent=1, ensure_ascii=False)
            (folder / video.id / "labels.json").write_text(labels, encoding="utf-8")
            with (folder / video.id / "annotations.xml").open("w", encoding="utf-8") as file:
                report.add("masks", _write_xml(source, video, file))
            report.add("videos")
            report.add("frames", len(video))
    return report


def _label(expression: str, text: str) -> str:
    return label_of(expression, _printable(text))[:LABEL_LETTERS]


def _labels(source: ExportSource, video: VideoRef) -> list[dict[str, Any]]:
    """Returns the labels of a video, as CVAT's raw constructor takes them."""
    store = source.store
    attribute = {
        "name": VIDEO,
        "mutable": False,
        "input_type": "text",
        "default_value": video.id,
        "values": [video.id],
    }
    return [
        {"name": _label(expression, text), "type": "mask", "attributes": [attribute]}
        for expression, text in zip(store.expressions(video.id), store.texts(video.id), strict=True)
    ]


def _write_xml(source: ExportSource, video: VideoRef, file: IO[str]) -> int:
    """Writes the annotations of a video, mask by mask. Returns the number of masks."""
    file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
    file.write(_text(_meta(video, _labels(source, video), source.title)))
    number = 0
    for frame in range(len(video)):
        for target in source.targets(video.id, frame):
            if target.shown:
                file.write(_text(_track(video, frame, target, number)))
                number += 1
    file.write("</annotations>\n")
    return number


def _meta(video: VideoRef, labels: list[dict[str, Any]], title: str) -> Element:
    meta = Element("meta")
    task = SubElement(meta, "task")
    _children(task, name=video.id, size=len(video), mode="annotation", start_frame=0)
    _children(task, stop_frame=len(video) - 1)
    listed = SubElement(task, "labels")
    for item in labels:
        label = SubElement(listed, "label")
        _children(label, name=item["name"], type="mask")
        attribute = SubElement(SubElement(label, "attributes"), "attribute")
        _children(attribute, name=VIDEO, mutable=False, input_type="text")
        _children(attribute, default_value=video.id, values=video.id)
    _children(SubElement(task, "original_size"), width=video.width, height=video.height)
    _children(meta, description=title)
    return meta


def _track(video: VideoRef, frame: int, target: Target, number: int) -> Element:
    x, y, width, height = target.box
    shape = {
        "rle": cvat_runs(target.mask[y : y + height, x : x + width]),
        "left": str(x),
        "top": str(y),
        "width": str(width),
        "height": str(height),
        "z_order": "0",
        "occluded": "0",
        "keyframe": "1",
    }
    label = _label(target.expression, target.text)
    track = Element("track", {"id": str(number), "label": label, "source": "manual"})
    ends = [(frame, "0"), (frame + 1, "1")]
    for place, outside in ends[: len(video) - frame]:
        mask = SubElement(track, "mask", {"frame": str(place), "outside": outside, **shape})
        SubElement(mask, "attribute", {"name": VIDEO}).text = video.id
    return track


def _children(parent: Element, **texts: object) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = _printable(str(text))


def _printable(text: str) -> str:
    """Returns a text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter >= " " or letter in "\t\n")


def _text(element: Element) -> str:
    return tostring(element, encoding="unicode") + "\n"
