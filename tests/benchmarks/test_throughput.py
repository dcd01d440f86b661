import numpy as np

from benchmarks.throughput import HELD_TO, box_differences, boxes_of, measure
from pipeline.types import Boxes


def test_both_sides_give_the_same_on_the_demo_models() -> None:
    rows = {row.what: row for row in measure(demo=True, frames=1, calls=1)}
    assert set(HELD_TO) <= set(rows)
    for name, row in rows.items():
        calls = 48 if "6 positives" in name else 8
        assert (row.calls_timed, row.calls) == (1, calls)
        assert row.ours > 0 and row.loop > 0 and row.ratio == row.loop / row.ours
    for name in ("segment, 1 positive", "segment, 6 positives"):
        assert rows[name].agreement["lowest mask IoU"] > 0.99
    assert rows["ground, exact"].agreement["largest"] < 1e-4


def test_a_box_that_the_package_does_not_give_is_far_from_it() -> None:
    zeros = np.zeros(1, np.int32)
    found = Boxes(np.array([[64, 36, 320, 180]], np.float32), np.ones(1, np.float32), zeros, zeros)
    near, far = np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([[0.1, 0.1, 0.5, 0.7]])
    assert box_differences(found, [near.astype(np.float32)])[0] < 1e-6
    assert abs(box_differences(found, [far.astype(np.float32)])[0] - 0.2) < 1e-6


def test_most_of_the_positives_boxes_lie_near_another() -> None:
    from stages.segment.segmenter import merge_boxes

    boxes = boxes_of(6, 1)
    assert boxes.shape == (48, 4)
    assert 8 <= len(merge_boxes(boxes, 0.95)[0]) <= 24
    assert len(merge_boxes(boxes, 1.0)[0]) == 48
