"""``evaluate a2d`` and ``evaluate jhmdb``: mAP, precision@K, overall and mean IoU of queries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from flows.evaluation.queries import queries_of
from flows.evaluation.result import Result, mean
from pipeline.coco import average_precision, decode_rle, encode_rle
from pipeline.errors import InputError, PseudoLabelError
from pipeline.metrics import contour_accuracy, overlap_figures, region_similarity
from storage.datasets import open_dataset
from storage.files.json_files import list_at, object_at, read_json, read_json_object

_CATEGORIES: list[dict[str, Any]] = [{"id": 1, "name": "object"}]
"""Queries have none; pycocotools wants one, the same in truth and predictions."""

_TRUTH_LAYOUT = "a COCO file: images, annotations with RLE segmentations, categories"
_ROWS_LAYOUT = "a JSON list of COCO results: image_id, RLE segmentation, score"


def evaluate_queries(
    predictions: Path, dataset: str, truth_file: Path | None, root: Path | None
) -> Result:
    """COCO results against the ground truth of A2D-Sentences or JHMDB-Sentences.

    A query without a prediction counts as an empty mask. A prediction of no known query, or one
    that is malformed or of another size, is named and left out.

    Args:
        predictions: a JSON list of COCO results; a query's image is ``v_<video>_f_<frame>_i_<i>``
            in ``a2d`` and ``v_<video>_f_<frame>`` in ``jhmdb``, frames as the data set's files
            number them.
        dataset: ``a2d`` or ``jhmdb``.
        truth_file: the ground truth as a COCO file; None to build it from the data set.
        root: the data set's folder; JHMDB's holds ``jhmdb_sentences_samples_metadata.json``.

    Raises:
        InputError: a file is missing or malformed, or there is no ground truth.
    """
    problems: list[str] = []
    if truth_file is not None:
        truth = _read_truth(truth_file)
    elif root is not None:
        truth = truth_of_queries(dataset, root, problems)
    else:
        raise InputError(
            dataset, "neither --truth nor --root", "the truth", "give a COCO file or the data set"
        )
    if not truth["annotations"]:
        place = root if truth_file is None else truth_file
        words = f"no query whose ground truth can be read; {'; '.join(problems[:3])}"
        raise InputError(str(place), words, "the ground truth of a split", "check --root")
    sizes = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
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
        rows.append({"image": item["image_id"]} | _of_pair(*_decoded(*pairs[-1])))
    overlap = overlap_figures(_decoded(*pair) for pair in pairs)
    found_figures = average_precision(truth, kept)
    found_figures |= overlap.by_name
    j, f = mean([row["J"] for row in rows]), mean([row["F"] for row in rows])
    found_figures |= {"J&F": (j + f) / 2, "J": j, "F": f}
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


def _of_pair(pred: Any, truth: Any) -> dict[str, float]:
    """The figures of one query; a prediction of None is an empty mask."""
    mask = np.zeros_like(truth) if pred is None else pred
    return {
        "IoU": overlap_figures([(pred, truth)]).mean_iou,
        "J": float(region_similarity(mask, truth)),
        "F": float(contour_accuracy(mask, truth)),
    }


def truth_of_queries(
    dataset: str, root: Path, problems: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """The queries of the split ``test`` of a data set as COCO. Arguments as of
    :func:`flows.evaluation.queries.queries_of`."""
    found = queries_of(open_dataset(dataset, root, "test"), root, problems)
    return _coco((query.image, mask) for query, mask in found)


def _coco(samples: Iterator[tuple[str, NDArray[np.bool_]]]) -> dict[str, list[dict[str, Any]]]:
    images, annotations = [], []
    for number, (name, mask) in enumerate(samples, start=1):
        images.append({"id": name, "height": mask.shape[0], "width": mask.shape[1]})
        annotations.append(_annotation(number, name, mask))
    return {"images": images, "annotations": annotations, "categories": _CATEGORIES}


def _annotation(number: int, image: Any, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """All that COCO's evaluation looks at. Numbers begin at 1: pycocotools takes 0 for no match."""
    return {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORIES[0]["id"],
        "iscrowd": 0,
        "segmentation": encode_rle(mask),
        "area": int(mask.sum()),
    }


def _read_truth(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The ground truth of a COCO file, checked and brought into one form.

    Ids of annotations are numbered anew, of categories there is one, and masks are encoded anew, so
    that what is odd about a file decides nothing.
    """
    document = read_json_object(path, _TRUTH_LAYOUT)
    rows = {
        key: [
            object_at(row, path, f"a row of {key}", _TRUTH_LAYOUT)
            for row in list_at(document.get(key), path, key, _TRUTH_LAYOUT)
        ]
        for key in ("images", "annotations")
    }
    if not rows["annotations"]:
        raise InputError(path, "no annotations", _TRUTH_LAYOUT, "give the ground truth of a split")
    sizes: dict[Any, tuple[int, int]] = {}
    for row in rows["images"]:
        name, size = row.get("id"), (row.get("height"), row.get("width"))
        if not _is_id(name) or not all(type(side) is int and side > 0 for side in size):
            raise _bad_row(path, f"image {name!r:.80} of {size[0]!r:.40} x {size[1]!r:.40} pixels")
        if name in sizes:
            raise _bad_row(path, f"image {name!r:.80} is there twice")
        sizes[name] = cast(tuple[int, int], size)
    annotations = []
    for number, row in enumerate(rows["annotations"], start=1):
        what, image = f"annotation {row.get('id')!r:.80}", row.get("image_id")
        if not _is_id(image) or image not in sizes:
            raise _bad_row(path, f"{what} is of image {image!r:.80}, which is not there")
        try:
            mask = decode_rle(row.get("segmentation"))
        except PseudoLabelError as error:
            raise _bad_row(path, f"{what}: {error}") from error
        if mask.shape != sizes[image]:
            height, width = sizes[image]
            found = f"{mask.shape[0]} x {mask.shape[1]} pixels, of an image of {height} x {width}"
            raise _bad_row(path, f"{what} has {found}")
        given = {"iscrowd": int(bool(row.get("iscrowd", 0)))}
        if is_finite(row.get("area")):
            given["area"] = row["area"]
        annotations.append(_annotation(number, image, mask) | given)
    images = [{"id": name, "height": size[0], "width": size[1]} for name, size in sizes.items()]
    return {"images": images, "annotations": annotations, "categories": _CATEGORIES}


def _bad_row(path: Path, found: str) -> InputError:
    return InputError(path, found, _TRUTH_LAYOUT, "fix the row")


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Whether a value out of JSON is a number, and no NaN, Infinity or one beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _checked(
    path: Path, sizes: dict[Any, tuple[int, int]], problems: list[str]
) -> Iterator[dict[str, Any]]:
    """The results that can be counted, in one form; the others become problems."""
    # NaN may be in one row, which is no reason to refuse the others.
    document = read_json(path, _ROWS_LAYOUT, any_number=True)
    for number, row in enumerate(list_at(document, path, "the file", _ROWS_LAYOUT)):
        name = row.get("image_id") if isinstance(row, dict) else None
        what = f"prediction {number}"
        if not _is_id(name) or name not in sizes:
            problems.append(f"{what}: image_id {name!r:.80} is no query; left out")
            continue
        score = row.get("score")
        if not is_finite(score):
            problems.append(f"{what}, {name}: score {score!r:.80} is no number; left out")
            continue
        try:
            mask = decode_rle(row.get("segmentation"))
        except PseudoLabelError as error:
            problems.append(f"{what}, {name}: {error}; left out")
            continue
        if mask.shape != sizes[name]:
            height, width = sizes[name]
            problems.append(
                f"{what}, {name}: {mask.shape[0]} x {mask.shape[1]} pixels;"
                f" expected {height} x {width}; left out"
            )
            continue
        yield {
            "image_id": name,
            "category_id": _CATEGORIES[0]["id"],
            "segmentation": encode_rle(mask),
            "score": float(score),
        }


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
