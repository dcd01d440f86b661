from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.coco import (
    AVERAGE_PRECISIONS,
    average_precision,
    decode_rle,
    encode_rle,
    polygon_mask,
)
from pipeline.errors import PseudoLabelError
from pipeline.metrics import overlap_figures


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_rle_reads_back(mask: np.ndarray) -> None:
    rle = json.loads(json.dumps(encode_rle(mask)))
    assert np.array_equal(decode_rle(rle), mask)


def test_uncompressed_rle_reads() -> None:
    mask = decode_rle({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "rle",
    [
        None,
        [[1, 1, 9, 1, 9, 9]],
        {},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": [9]},
        {"size": [2, 2], "counts": [1, -2, 5]},
        {"size": [2, 2], "counts": [1, 2.0, 1]},
        {"size": [2, 2], "counts": [2**70, 2]},
        {"size": [2, 2], "counts": {}},
        {"size": [2], "counts": [4]},
        {"size": 4, "counts": [4]},
        {"size": ["2", 2], "counts": [4]},
        {"size": [0, 2], "counts": []},
        {"size": [-1, 5], "counts": ""},
        {"size": [-1, -4], "counts": [4]},
        {"size": [10**5, 10**5], "counts": [10**10]},
        {"size": [10**20, 1], "counts": ""},
    ],
)
def test_what_is_no_rle_is_refused(rle: object) -> None:
    with pytest.raises(PseudoLabelError, match="RLE"):
        decode_rle(rle)


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)), st.data())
def test_no_part_of_an_rle_is_one(mask: np.ndarray, data: st.DataObject) -> None:
    """pycocotools reads on past the end of the text, and past the end of the mask."""
    rle = encode_rle(mask)
    cut = data.draw(st.integers(0, len(rle["counts"]) - 1))
    for counts in (rle["counts"][:cut], rle["counts"] + "1", rle["counts"] + "o"):
        with pytest.raises(PseudoLabelError, match="not a COCO RLE"):
            decode_rle({**rle, "counts": counts})


@given(st.text(max_size=12) | st.binary(max_size=12))
def test_no_text_at_all_breaks_anything(counts: str | bytes) -> None:
    try:
        mask = decode_rle({"size": [3, 4], "counts": counts})
    except PseudoLabelError:
        return
    assert mask.shape == (3, 4)
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize("name", ["3q_random_scores", "1q_random_scores", "1q_const_score"])
def test_a2d_figures_agree_with_the_reference(real_data: Path, name: str) -> None:
    folder = real_data / "metrics"
    expected = json.loads((folder / "expected_rvos.json").read_text())["a2d"][name]
    truth = json.loads((folder / f"a2d_gt_{name}.json").read_text())
    predictions = json.loads((folder / f"a2d_pred_{name}.json").read_text())
    top: dict[str, dict[str, object]] = {}
    for row in sorted(predictions, key=lambda row: row["score"]):
        top[row["image_id"]] = row
    overlap = overlap_figures(
        (decode_rle(top[row["image_id"]]["segmentation"]), decode_rle(row["segmentation"]))
        for row in truth["annotations"]
    )
    got = average_precision(truth, predictions)
    got |= {f"P@{k}": value for k, value in overlap.precision.items()}
    got |= {"overall_iou": overlap.overall_iou, "mean_iou": overlap.mean_iou}
    assert got == pytest.approx(expected, abs=1e-6)


def test_no_predictions_give_zero() -> None:
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    assert average_precision(truth, []) == dict.fromkeys(AVERAGE_PRECISIONS, 0.0)


def test_polygons_are_filled_as_pycocotools_fills_them() -> None:
    squares = [[1, 1, 4, 1, 4, 5, 1, 5], [3, 2, 8, 2, 8, 4, 3, 4]]
    mask = polygon_mask(squares, 6, 9)
    expected = np.zeros((6, 9), bool)
    expected[1:5, 1:4] = True
    expected[2:4, 3:8] = True
    assert np.array_equal(mask, expected)
    assert not polygon_mask([], 6, 9).any()
    # A corner far away is moved to the edge, and takes no memory.
    assert polygon_mask([[-1e300, 0, 1e300, 0, 1e300, 1e300, -1e300, 1e300]], 6, 9).all()


@pytest.mark.parametrize("polygon", [[1, 2, 3, 4], [1, 2, 3, 4, 5], ["a"] * 6, 3, [[1, 2]] * 3])
def test_what_is_no_polygon_is_refused(polygon: object) -> None:
    with pytest.raises(PseudoLabelError, match="not a polygon"):
        polygon_mask([polygon], 4, 4)
