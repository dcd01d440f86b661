"""COCO's average precision of referring segmentation, through pycocotools.

A2D-Sentences and JHMDB-Sentences report it as mAP: segmentation AP over IoU 0.5:0.95, without
categories, every query submitted with its score.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.errors import PseudoLabelError

Rle = dict[str, Any]
"""A COCO run-length mask: ``size`` [H, W] and ``counts``, text in JSON."""

AVERAGE_PRECISIONS = ("mAP 0.5:0.95", "AP 0.5", "AP 0.75", "AP S", "AP M", "AP L")


def encode_rle(mask: ArrayLike) -> Rle:
    """A mask [H, W] as COCO RLE with text counts, ready for JSON."""
    encoded = rle_codec.encode(np.asfortranarray(np.asarray(mask, dtype=bool).view(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask [H, W] of a COCO RLE, compressed (text or bytes) or a list of run lengths.

    Raises:
        PseudoLabelError: it is not an RLE.
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, list):
            return _from_runs(counts, height, width)
        encoded = {"size": [height, width], "counts": counts}
        mask: NDArray[np.bool_] = rle_codec.decode(encoded).astype(bool)
    except (KeyError, TypeError, ValueError) as error:
        raise PseudoLabelError(
            f"not a COCO RLE ({error}); expected size [H, W] and counts"
        ) from error
    return mask


def average_precision(
    truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Segmentation AP with useCats=0.

    Args:
        truth: a COCO data set: images, annotations with RLE segmentations, categories.
        predictions: COCO results: image_id, category_id, RLE segmentation, score. May be empty.

    Returns:
        The figures of :data:`AVERAGE_PRECISIONS`, in [0, 1]; -1 where a size has no truth, as
        pycocotools puts it; 0 where there are no predictions.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        # pycocotools writes into what it is given, so it gets copies.
        coco = COCO()
        coco.dataset = {key: [dict(row) for row in rows] for key, rows in truth.items()}
        coco.createIndex()
        if not predictions:
            return dict.fromkeys(AVERAGE_PRECISIONS, 0.0)
        results = coco.loadRes([dict(row) for row in predictions])
        evaluation = COCOeval(coco, results, iouType="segm")
        evaluation.params.useCats = 0
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = evaluation.stats[: len(AVERAGE_PRECISIONS)]
    return {name: float(value) for name, value in zip(AVERAGE_PRECISIONS, figures, strict=True)}


def _from_runs(counts: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    if sum(counts) != height * width:
        raise ValueError(f"runs sum to {sum(counts)}, not {height} x {width}")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
