"""Export to Label Studio, so that people correct the masks with its brush.

::

    <out>/labelling.xml                     the labelling interface: a picture, and brush labels
    <out>/tasks.json                        a task a frame, the masks as predictions
    <out>/images/<video>/<frame>.jpg
    <out>/export.json                       says that this is an export

Label Studio's tracks in videos are rectangles; masks exist on pictures alone. So a task is a frame.
A label is ``<expression>: <sentence>``, by which `pseudolabels import-masks` finds the expression
in the JSON that Label Studio exports. Pictures are found through its local storage: start it with
``LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`` and
``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=<the folder that holds out>``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pipeline.types import VideoRef
from storage.corrections import label_of
from storage.exports.marked_folder import export_folder
from storage.exports.source import ExportReport, ExportSource, Target, place_frame
from storage.files.mask_runs import label_studio_runs


def export_label_studio(source: ExportSource, out: Path) -> ExportReport:
    """Writes the folder.

    Raises:
        StoreError: there are no masks, or the store does not fit the data set.
    """
    report, labels = ExportReport(), dict[str, None]()
    with export_folder(out, "label-studio") as folder:
        with (folder / "tasks.json").open("w", encoding="utf-8") as file:
            file.write("[")
            for video in source.videos(report):
                images = folder / "images" / video.id
                images.mkdir(parents=True)
                for frame, name in enumerate(video.frames):
                    place_frame(source, video, frame, images / f"{name}.jpg")
                    task = _task(source, video, frame, out.name, labels)
                    file.write(",\n" if report.counts.get("tasks") else "\n")
                    json.dump(task, file, ensure_ascii=False)
                    report.add("tasks")
                    report.add("masks", len(task["predictions"][0]["result"]))
                report.add("videos")
            file.write("\n]\n")
        (folder / "labelling.xml").write_text(_interface(list(labels)), encoding="utf-8")
    return report


def _task(
    source: ExportSource, video: VideoRef, frame: int, top: str, labels: dict[str, None]
) -> dict[str, Any]:
    name, results = video.frames[frame], []
    for target in source.targets(video.id, frame):
        label = label_of(target.expression, target.text)
        labels.setdefault(label)
        if target.shown:
            results.append(_result(target, video, label))
    place = quote(f"{top}/images/{video.id}/{name}.jpg")
    data = {"image": f"/data/local-files/?d={place}", "video": video.id, "frame": name}
    if source.warning:
        data["warning"] = source.warning
    return {"data": data, "predictions": [{"model_version": "pseudolabels", "result": results}]}


def _result(target: Target, video: VideoRef, label: str) -> dict[str, Any]:
    return {
        "id": f"target-{target.expression}",
        "type": "brushlabels",
        "from_name": "mask",
        "to_name": "image",
        "original_width": video.width,
        "original_height": video.height,
        "image_rotation": 0,
        "score": round(target.weight, 6),
        "value": {
            "format": "rle",
            "rle": label_studio_runs(target.mask),
            "brushlabels": [label],
        },
    }


def _interface(labels: list[str]) -> str:
    lines = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="mask" toName="image">\n{lines}  </BrushLabels>\n</View>\n'
    )
