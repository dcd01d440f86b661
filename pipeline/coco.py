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

MAX_PIXELS = 64_000_000
"""Of a mask; a few bytes can claim any size, and 8K video has 33 million pixels."""

_MAX_LETTERS = 7
"""Of one run in text, five bits a letter: more than any run of a mask needs."""

AVERAGE_PRECISIONS = ("mAP 0.5:0.95", "AP 0.5", "AP 0.75", "AP S", "AP M", "AP L")


def encode_rle(mask: ArrayLike) -> Rle:
    """A mask [H, W] as COCO RLE with text counts, ready for JSON."""
    encoded = rle_codec.encode(np.asfortranarray(np.asarray(mask, dtype=bool).view(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode()}


def decode_rle(rle: Any) -> NDArray[np.bool_]:
    """The mask [H, W] of a COCO RLE, compressed (text or bytes) or a list of run lengths.

    Every run is checked before a pixel is written: pycocotools reads past the end of a text that is
    cut short, and writes past the end of a mask that runs overrun.

    Raises:
        PseudoLabelError: it is not an RLE, or its runs do not make up its size.
    """
    try:
        if not isinstance(rle, Mapping):
            raise TypeError("polygons" if isinstance(rle, list) else f"{type(rle).__name__}")
        height, width = _checked_size(rle["size"])
        runs = _checked_runs(rle["counts"], height, width)
    except (KeyError, TypeError, ValueError) as error:
        raise PseudoLabelError(
            f"not a COCO RLE ({error}); expected size [H, W] and counts"
        ) from error
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def polygon_mask(polygons: Sequence[Any], height: int, width: int) -> NDArray[np.bool_]:
    """The mask [H, W] of COCO's polygons, each a list of x and y in turn; their union.

    Corners outside the mask are moved to its edge, as pycocotools allocates by their distances.

    Raises:
        PseudoLabelError: a polygon has fewer than three corners, or is no list of numbers.
    """
    checked = []
    for polygon in polygons:
        try:
            corners = np.array(polygon, dtype=np.float64)
        except (TypeError, ValueError):
            corners = np.empty(0)
        if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or np.isnan(corners).any():
            raise PseudoLabelError(
                "not a polygon of COCO; expected x and y in turn, of three corners or more"
            )
        corners[::2], corners[1::2] = corners[::2].clip(0, width), corners[1::2].clip(0, height)
        checked.append(corners.tolist())
    if not checked:
        return np.zeros((height, width), dtype=np.bool_)
    parts = rle_codec.frPyObjects(checked, height, width)
    return np.asarray(rle_codec.decode(rle_codec.merge(parts)), dtype=np.bool_)


def average_precision(
    truth: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Segmentation AP with useCats=0.

    Args:
        truth: a COCO data set: images, annotations with RLE segmentations, categories. Ids of
            annotations are above 0 and unique, for pycocotools takes 0 for no match; their RLEs, as
            those of the predictions, are compressed and sound (:func:`encode_rle`).
        predictions: COCO results: image_id, category_id, RLE segmentation, score, and nothing else,
            by which pycocotools would take them for another kind. May be empty.

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


def _checked_size(size: Any) -> tuple[int, int]:
    """H and W. Raises ValueError where they are no size of a mask."""
    sides = list(size)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"size {size!r:.80}")
    height, width = sides
    if height * width > MAX_PIXELS:
        raise ValueError(f"size {size!r:.80}, of more than {MAX_PIXELS:,} pixels")
    return height, width


def _checked_runs(counts: Any, height: int, width: int) -> NDArray[np.int64]:
    """The lengths of the runs, which make up H x W. Raises TypeError or ValueError if not."""
    if isinstance(counts, list):
        most = height * width
        if not all(type(run) is int and 0 <= run <= most for run in counts):
            raise ValueError("a run that is no length")
        runs = np.array(counts, np.int64)
    elif isinstance(counts, str | bytes):
        runs = _runs_of_text(counts.encode("ascii") if isinstance(counts, str) else counts)
    else:
        raise TypeError(f"counts are {type(counts).__name__}")
    if (runs < 0).any():
        raise ValueError("a run of negative length")
    if int(runs.sum()) != height * width:
        raise ValueError(f"runs sum to {runs.sum()}, not {height} x {width}")
    return runs


def _runs_of_text(text: bytes) -> NDArray[np.int64]:
    """The numbers in compressed counts. Raises ValueError where they do not end.

    A letter holds five bits of a number, the lowest first, and a sixth that says whether more
    follow; the highest bit is the sign. From the fourth on a number is the difference to the run
    two before it.
    """
    letters = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(letters):
        return letters
    if ((letters < 0) | (letters > 63)).any():
        raise ValueError("a letter in counts that none has")
    ends = np.flatnonzero((letters & 32) == 0)
    if not len(ends) or ends[-1] != len(letters) - 1:
        raise ValueError("counts that are cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_LETTERS:
        raise ValueError("a run that is too long")
    place = np.arange(len(letters)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((letters & 31) << (5 * place), starts)
    numbers -= np.where(letters[ends] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
