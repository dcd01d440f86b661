from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.coco import AVERAGE_PRECISIONS, average_precision, encode_rle
from pipeline.ranked_precision import RankedOverlaps


def boxed(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[y0:y1, x0:x1] = True
    return mask


SIDES = st.tuples(*(st.integers(0, side) for side in (12, 16, 12, 16)))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=12), st.randoms())
def test_it_is_the_average_precision_of_pycocotools(pairs, random) -> None:  # type: ignore[no-untyped-def]
    scores = random.sample(range(1, 100), len(pairs))
    masks = [(boxed(*pred), boxed(*truth)) for pred, truth in pairs]
    ours = RankedOverlaps()
    truth, results = [], []
    for number, (score, (pred, target)) in enumerate(zip(scores, masks, strict=True), start=1):
        ours.add(score / 100, pred, target)
        row = {"image_id": number, "category_id": 1}
        if target.any():
            area = {"id": number, "iscrowd": 0, "area": int(target.sum())}
            truth.append(row | area | {"segmentation": encode_rle(target)})
        if pred.any():
            results.append(row | {"segmentation": encode_rle(pred), "score": score / 100})
    if not truth:
        assert ours.figures() == {}
        return
    images = [{"id": number + 1, "height": 12, "width": 16} for number in range(len(pairs))]
    document = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "x"}]}
    theirs = average_precision(document, results)
    expected = {name: theirs[name] for name in AVERAGE_PRECISIONS[:3]}
    assert ours.figures() == pytest.approx(expected, abs=1e-9)


def test_a_false_alarm_costs_by_its_rank() -> None:
    def after(score: float) -> float:
        found = RankedOverlaps()
        found.add(0.5, boxed(0, 0, 4, 4), boxed(0, 0, 4, 4))
        found.add(score, boxed(0, 0, 4, 4), boxed(0, 0, 0, 0))
        return found.figures()["AP 0.5"]

    assert after(0.9) == pytest.approx(0.5)
    assert after(0.1) == 1
