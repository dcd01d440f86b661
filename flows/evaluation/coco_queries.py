"""``evaluate a2d`` and ``evaluate jhmdb``: mAP, precision@K, overall and mean IoU of queries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.evaluation.result import Result, mean
from pipeline.coco import average_precision, decode_rle, encode_rle
from pipeline.errors import InputError, PseudoLabelError
from pipeline.metrics import PRECISION_THRESHOLDS, overlap_figures
from pipeline.ports import DatasetReader
from pipeline.types import FrameIndex
from storage.datasets import open_dataset
from storage.files.json_files import list_at, object_at, read_json_object

_CATEGORIES: list[dict[str, Any]] = [{"id": 1, "name": "object"}]
"""Queries have none; pycocotools wants one, the same in truth and predictions."""

_TRUTH_LAYOUT = "a COCO file: images, annotations with RLE segmentations, categories"
_ROWS_LAYOUT = "a JSON list of COCO results: image_id, RLE segmentation, score"
_SAMPLES = "jhmdb_sentences_samples_metadata.json"
_SAMPLES_LAYOUT = "a JSON list of [video, frame path, mask path, frames, text]"


def evaluate_queries(
    predictions: Path, dataset: str, truth_file: Path | None, root: Path | None
) -> Result:
    """COCO results against the truth of A2D-Sentences or JHMDB-Sentences.

    A query without a prediction counts as an empty mask. A prediction of no known query, or one
    that is malformed or of another size, is named and left out.

    Args:
        predictions: a JSON list of COCO results; a query's image is ``v_<video>_f_<frame>_i_<i>``
            in ``a2d`` and ``v_<video>_f_<frame>`` in ``jhmdb``, frames as the data set's files
            number them.
        dataset: ``a2d`` or ``jhmdb``.
        truth_file: the truth as a COCO file; None to build it from the data set.
        root: the data set's folder; JHMDB's holds ``jhmdb_sentences_samples_metadata.json``.

    Raises:
        InputError: a file is missing or malformed, or there is no truth.
    """
    if truth_file is not None:
        truth = _read_truth(truth_file)
    elif root is not None:
        truth = a2d_truth(root) if dataset == "a2d" else jhmdb_truth(root)
    else:
        raise InputError(
            dataset, "neither --truth nor --root", "the truth", "give a COCO file or the data set"
        )
    sizes = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
    problems: list[str] = []
    kept = list(_checked(predictions, sizes, problems))
    top: dict[Any, dict[str, Any]] = {}
    for row in kept:
        if row["image_id"] not in top or row["score"] > top[row["image_id"]]["score"]:
            top[row["image_id"]] = row
    rows, pairs = [], []
    for item in truth["annotations"]:
        found = top.get(item["image_id"])
        if found is None:
            problems.append(f"{item['image_id']}: no prediction; counted as an empty mask")
        pairs.append((None if found is None else found["segmentation"], item["segmentation"]))
        one = overlap_figures([_decoded(*pairs[-1])])
        rows.append({"image": item["image_id"], "IoU": one.mean_iou})
    overlap = overlap_figures(_decoded(*pair) for pair in pairs)
    found_figures = average_precision(truth, kept)
    found_figures |= {f"P@{k}": overlap.precision[k] for k in PRECISION_THRESHOLDS}
    found_figures |= {"overall IoU": overlap.overall_iou, "mean IoU": overlap.mean_iou}
    return Result(
        title=f"{dataset} sentences",
        systems={"predictions": found_figures},
        sequences=_by_video(rows),
        expressions=rows,
        problems=problems,
        counts={"queries": len(rows), "predictions": len(kept)},
    )


def _decoded(pred: Any, truth: Any) -> tuple[Any, Any]:
    return None if pred is None else decode_rle(pred), decode_rle(truth)


def a2d_truth(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The test queries of A2D-Sentences as COCO: an image a sentence and annotated frame."""
    reader = open_dataset("a2d", root, "test")
    return _coco(
        (f"v_{video}_f_{int(frame)}_i_{expression}", mask)
        for video, expression, frame, mask in _annotated(reader)
        if mask.any()
    )


def jhmdb_truth(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The queries of JHMDB-Sentences as COCO: the three frames a video that its file names."""
    reader = open_dataset("jhmdb", root, "test")
    path = root / _SAMPLES
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path, f"not readable ({error})", _SAMPLES_LAYOUT, "put the file into the root"
        ) from error

    def samples() -> Iterator[tuple[str, Any]]:
        for row in list_at(rows, path, "the file", _SAMPLES_LAYOUT):
            sample = list_at(row, path, "a sample", _SAMPLES_LAYOUT)
            stem = Path(str(sample[1])).stem if len(sample) > 1 else ""
            if not stem.isdecimal():
                raise InputError(path, f"a sample is {row}", _SAMPLES_LAYOUT, "mend the sample")
            video = reader.video(str(sample[0]))
            index = next((i for i, n in enumerate(video.frames) if int(n) == int(stem)), None)
            expression = reader.expressions(video.id)[0]
            mask = None if index is None else reader.truth(video, expression, FrameIndex(index))
            if mask is None:
                raise InputError(
                    path, f"{video.id} frame {stem} has no truth", "an annotated frame", "mend it"
                )
            yield f"v_{video.id}_f_{int(stem)}", mask

    return _coco(samples())


def _annotated(reader: DatasetReader) -> Iterator[tuple[str, str, str, Any]]:
    """(video, expression, frame name, mask) of every annotated frame."""
    for video_id in reader.video_ids():
        video = reader.video(video_id)
        for expression in reader.expressions(video_id):
            for index, name in enumerate(video.frames):
                mask = reader.truth(video, expression, FrameIndex(index))
                if mask is not None:
                    yield video_id, expression.key.expression, name, mask


def _coco(samples: Iterator[tuple[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    images, annotations = [], []
    for number, (name, mask) in enumerate(samples, start=1):
        rle = encode_rle(mask)
        images.append({"id": name, "height": mask.shape[0], "width": mask.shape[1]})
        ys, xs = mask.nonzero()
        box = [0, 0, 0, 0]
        if len(xs):
            box = [int(xs.min()), int(ys.min()), int(xs.max() - xs.min()) + 1, 0]
            box[3] = int(ys.max() - ys.min()) + 1
        annotations.append(
            {
                "id": number,
                "image_id": name,
                "category_id": _CATEGORIES[0]["id"],
                "iscrowd": 0,
                "segmentation": rle,
                "area": int(mask.sum()),
                "bbox": box,
            }
        )
    return {"images": images, "annotations": annotations, "categories": _CATEGORIES}


def _read_truth(path: Path) -> dict[str, list[dict[str, Any]]]:
    document = read_json_object(path, _TRUTH_LAYOUT)
    truth: dict[str, list[dict[str, Any]]] = {}
    for key in ("images", "annotations", "categories"):
        rows = list_at(document.get(key), path, key, _TRUTH_LAYOUT)
        truth[key] = [object_at(row, path, f"a row of {key}", _TRUTH_LAYOUT) for row in rows]
    if not truth["annotations"]:
        raise InputError(path, "no annotations", _TRUTH_LAYOUT, "give the truth of a split")
    for key, names in (
        ("images", ("id", "height", "width")),
        ("annotations", ("id", "image_id", "segmentation")),
    ):
        for row in truth[key]:
            missing = [name for name in names if name not in row]
            if missing:
                raise InputError(
                    path, f"a row of {key} without {missing[0]}", _TRUTH_LAYOUT, "mend the row"
                )
    truth["annotations"] = [_completed(row, path) for row in truth["annotations"]]
    return {**truth, "categories": _CATEGORIES}


def _completed(annotation: dict[str, Any], path: Path) -> dict[str, Any]:
    """An annotation with all that COCO's evaluation looks at; of categories there is one."""
    found = {"iscrowd": 0} | annotation | {"category_id": _CATEGORIES[0]["id"]}
    if "area" not in found:
        try:
            found["area"] = int(decode_rle(annotation["segmentation"]).sum())
        except PseudoLabelError as error:
            what = f"annotation {annotation['id']}: {error}"
            raise InputError(path, what, _TRUTH_LAYOUT, "mend the row") from error
    return found


def _checked(
    path: Path, sizes: dict[Any, tuple[int, int]], problems: list[str]
) -> Iterator[dict[str, Any]]:
    """The results that can be counted; the others become problems."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"not readable ({error})", _ROWS_LAYOUT, "check the path") from error
    for number, row in enumerate(list_at(document, path, "the file", _ROWS_LAYOUT)):
        name = row.get("image_id") if isinstance(row, dict) else None
        what = f"prediction {number}"
        if not isinstance(name, str | int) or name not in sizes:
            problems.append(f"{what}: image_id {name!r} is no query; left out")
            continue
        score = row.get("score")
        try:
            mask = decode_rle(row.get("segmentation"))
        except PseudoLabelError as error:
            problems.append(f"{what}, {name}: {error}; left out")
            continue
        if (
            mask.shape != sizes[name]
            or isinstance(score, bool)
            or not isinstance(score, int | float)
        ):
            size = sizes[name]
            problems.append(
                f"{what}, {name}: {mask.shape[0]} x {mask.shape[1]} pixels with score {score!r};"
                f" expected {size[0]} x {size[1]} and a number; left out"
            )
            continue
        yield row | {"category_id": _CATEGORIES[0]["id"]}


def _by_video(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean IoU by video, as the images' names have it."""
    videos: dict[str, list[float]] = {}
    for row in rows:
        name = str(row["image"]).removeprefix("v_").rpartition("_f_")[0] or str(row["image"])
        videos.setdefault(name, []).append(row["IoU"])
    return [
        {"video": video, "queries": len(values), "IoU": mean(values)}
        for video, values in videos.items()
    ]
