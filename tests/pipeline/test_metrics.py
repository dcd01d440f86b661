from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.metrics import (
    contour_accuracy,
    mask_boundary,
    overlap_figures,
    region_similarity,
    statistics,
)

masks = hnp.arrays(bool, (12, 17))


@pytest.fixture(scope="module")
def reference(real_data: Path) -> tuple[dict[str, np.ndarray], dict[str, list[dict[str, float]]]]:
    with np.load(real_data / "metrics" / "cases.npz") as archive:
        cases = dict(archive)
    return cases, json.loads((real_data / "metrics" / "expected.json").read_text())


def test_j_and_f_agree_with_the_official_code(reference) -> None:
    arrays, expected = reference
    for case in expected["cases"]:
        pred, truth, void = (arrays[f"{name}_{case['i']}"] for name in ("pred", "gt", "void"))
        got = {
            "J": region_similarity(pred, truth),
            "F": contour_accuracy(pred, truth),
            "J_void": region_similarity(pred, truth, void),
            "F_void": contour_accuracy(pred, truth, void),
        }
        for name, value in got.items():
            assert value == pytest.approx(case[name], abs=1e-9), (case["i"], name)


def test_boundary_pixels_are_the_official_ones(reference) -> None:
    arrays, expected = reference
    for case in expected["cases"]:
        count = np.count_nonzero(mask_boundary(arrays[f"gt_{case['i']}"].astype(bool)))
        assert count == case["n_gt_boundary"], case["i"]


def test_statistics_agree_with_the_official_code(reference) -> None:
    for case in reference[1]["db_statistics"]:
        got = statistics(np.random.default_rng(case["n"]).random(case["n"]))
        assert got.mean == pytest.approx(case["mean"], abs=1e-9)
        assert got.recall == pytest.approx(case["recall"], abs=1e-9)
        if case["decay"] is not None:  # the official code breaks from 256 frames on
            assert got.decay == pytest.approx(case["decay"], abs=1e-9)


def _slow_f(pred: np.ndarray, truth: np.ndarray, bound_th: float) -> float:
    """F by the definition: every boundary pixel against every other."""
    radius = math.ceil(bound_th * math.hypot(*pred.shape))
    a, b = np.argwhere(mask_boundary(pred)), np.argwhere(mask_boundary(truth))
    if not (len(a) and len(b)):
        return float(len(a) == len(b))
    near = ((a[:, None] - b[None]) ** 2).sum(-1) <= radius**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(masks, masks, st.sampled_from([0.008, 0.06, 0.2]))
def test_f_is_its_definition(pred: np.ndarray, truth: np.ndarray, bound_th: float) -> None:
    got = contour_accuracy(pred, truth, bound_th=bound_th)
    assert got == pytest.approx(_slow_f(pred, truth, bound_th), abs=1e-12)


@given(masks, masks)
def test_j_and_f_are_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    for metric in (region_similarity, contour_accuracy):
        value = metric(a, b)
        assert 0 <= value <= 1
        assert value == pytest.approx(metric(b, a))
        assert metric(a, a) == 1


def test_a_clip_gives_a_value_a_frame() -> None:
    rng = np.random.default_rng(0)
    pred, truth, void = rng.random((3, 4, 20, 30)) > 0.5
    for metric in (region_similarity, contour_accuracy):
        got = metric(pred, truth, void)
        assert got.shape == (4,)
        assert got.tolist() == [metric(*frame) for frame in zip(pred, truth, void, strict=True)]


def test_a_full_mask_against_an_empty_one_has_no_contour_to_miss() -> None:
    full, empty = np.ones((20, 30), bool), np.zeros((20, 30), bool)
    assert region_similarity(full, empty) == 0
    assert contour_accuracy(full, empty) == 1


def test_an_empty_clip_gives_no_values() -> None:
    assert region_similarity(np.zeros((0, 4, 5)), np.zeros((0, 4, 5))).shape == (0,)


def test_masks_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        region_similarity(np.zeros((4, 5)), np.zeros((5, 4)))
    with pytest.raises(ValueError, match="void"):
        contour_accuracy(np.zeros((4, 5)), np.zeros((4, 5)), np.zeros((5, 4)))


def test_statistics_leave_nan_out_of_the_mean() -> None:
    got = statistics([math.nan, 0.25, 0.75, 1.0])
    assert got.mean == pytest.approx(2 / 3)
    assert got.recall == 0.5
    assert math.isnan(statistics([math.nan]).mean)


def test_statistics_of_a_long_video_use_all_of_it() -> None:
    values = np.linspace(1, 0, 1000)
    assert statistics(values).decay == pytest.approx(0.75, abs=0.01)


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        statistics([])


def test_overlap_figures() -> None:
    truth = np.zeros((20, 20), bool)
    truth[:, :10] = True
    half = truth.copy()
    half[:10] = False
    got = overlap_figures([(truth, truth), (half, truth), (None, truth)])
    # IoU of exactly one half is not above 0.5.
    assert got.precision[0.5] == pytest.approx(1 / 3)
    assert got.overall_iou == pytest.approx(300 / 600)
    assert got.mean_iou == pytest.approx(0.5, abs=1e-6)
    assert got.samples == 3


def test_overlap_figures_refuse_misfits() -> None:
    with pytest.raises(ValueError, match="expected the same"):
        overlap_figures([(np.zeros((2, 3)), np.zeros((3, 2)))])
    with pytest.raises(ValueError, match="no samples"):
        overlap_figures([])
