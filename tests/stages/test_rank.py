"""Temporal segment ranking as a filter (WSRVOS): the order, what breaks it, what fixes it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.calibration import Calibration
from pipeline.config import RankConfig
from pipeline.types import Candidates, Hypotheses, SampleKey, Status, VideoRef
from stages.common.mask_resolution import enlarge
from stages.rank import (
    EMPTY_MASK,
    LEAST_LEAD,
    OUT_OF_ORDER,
    leads,
    order_violations,
    rank,
    smoothest_path,
)

KEY = SampleKey("shapes", "train", "v", "0")
CELLS = 32
"""Cells of the long side; a frame of 64 x 128 pixels is 17 x 32 cells, one of them beyond."""
ROWS, COLUMNS = 17, 32
HEIGHT, WIDTH = 64, 128
HERE, THERE = (2, 2, 12, 10), (18, 4, 30, 14)


def cells(box: tuple[int, int, int, int] | None, value: float = 6.0) -> NDArray[np.float16]:
    logits = np.full((ROWS, COLUMNS), -value, np.float16)
    if box is not None:
        logits[box[1] : box[3], box[0] : box[2]] = value
    return logits


@dataclass(frozen=True)
class Made(Hypotheses):
    """Hypotheses with the candidates that their masks are made of."""

    candidates: tuple[Candidates, ...] = ()


def candidates_of(logits: NDArray[np.float16]) -> tuple[Candidates, ...]:
    """Candidates of logits [T, P, h, w]; P of each frame."""
    ones, rows = np.ones(logits.shape[1], np.float32), np.arange(logits.shape[1], dtype=np.int32)
    return tuple(Candidates(frame, ones, ones, rows) for frame in logits)


def made(
    frames: Sequence[Sequence[tuple[tuple[int, int, int, int] | None, float]]],
    status: Sequence[Status] | None = None,
    **changes: Any,
) -> Made:
    """Hypotheses of (box in cells, score) a frame, best first."""
    count, most = len(frames), max([len(frame) for frame in frames] + [1])
    logits = np.zeros((count, most, ROWS, COLUMNS), np.float16)
    box, score = np.zeros((count, most, 4), np.float32), np.zeros((count, most), np.float32)
    for t, frame in enumerate(frames):
        for place, (where, support) in enumerate(frame):
            logits[t, place] = cells(where)
            box[t, place] = np.array(where or (0, 0, 1, 1)) * 4
            score[t, place] = support
    number = np.array([len(frame) for frame in frames], np.int32)
    there = np.arange(most) < number[:, None]
    default = [Status.PRESENT if n else Status.ABSENT for n in number]
    values: dict[str, Any] = {
        "key": KEY,
        "candidate": np.tile(np.arange(most, dtype=np.int32)[:, None], (count, 1, 1)),
        "share": np.ones((count, most, 1), np.float32),
        "candidates": candidates_of(changes.pop("logits", logits)),
        "count": number,
        "together": np.ones(count, np.int32),
        "box": box,
        "score": score,
        "box_score": score,
        "agreement": np.where(there, 0.9, 0).astype(np.float32),
        "negative_margin": score,
        "predicted_iou": np.where(there, 0.8, 0).astype(np.float32),
        "stability": np.where(there, 0.7, 0).astype(np.float32),
        "status": np.array(default if status is None else status, np.uint8),
        "reason": tuple("" if n else "no box found" for n in number),
    }
    return Made(**(values | changes))


def run(hypotheses: Made, calibration: Calibration | None = None, **changes: Any) -> Any:
    frames = len(hypotheses.status)
    names = tuple(f"{index:05}" for index in range(frames))
    video = VideoRef("v", names, (Path("frame"),) * frames, HEIGHT, WIDTH)
    rules = RankConfig(**changes)
    return rank(hypotheses, hypotheses.candidates, video, rules, "digest", calibration)


def shifted(t: int) -> tuple[int, int, int, int]:
    return HERE[0] + t, HERE[1], HERE[2] + t, HERE[3]


overlaps = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(0, 1), min_size=n * n, max_size=n * n),
        st.lists(st.integers(1, 3), min_size=n, max_size=n),
        st.integers(2, 6),
        st.floats(0, 0.5),
    )
)


@given(overlaps)
def test_violations_equal_three_nested_loops(
    made_up: tuple[list[float], list[int], int, float],
) -> None:
    values, steps, window, epsilon = made_up
    n = len(steps)
    overlap = np.array(values).reshape(n, n)
    overlap = (overlap + overlap.T) / 2
    np.fill_diagonal(overlap, 1)
    frames = np.cumsum(steps)
    expected = []
    for middle in range(n):
        broken = pairs = 0
        for before in range(n):
            for after in range(n):
                if not frames[before] < frames[middle] < frames[after]:
                    continue
                if frames[middle] - frames[before] > window:
                    continue
                if frames[after] - frames[middle] > window:
                    continue
                pairs += 1
                forwards = overlap[before, after] > overlap[before, middle] + epsilon
                backwards = overlap[before, after] > overlap[middle, after] + epsilon
                broken += bool(forwards or backwards)
        expected.append(broken / pairs if pairs else 0.0)
    np.testing.assert_allclose(order_violations(overlap, frames, window, epsilon), expected)


def test_masks_that_part_with_time_keep_the_order() -> None:
    found, rows = run(made([[(shifted(t), 0.9)] for t in range(8)]))
    assert (found.status == Status.PRESENT).all()
    assert np.any(found.mask, (1, 2)).all()
    assert all(row.reason == "" for row in rows)
    expected = np.cbrt(0.8 * 0.7)
    np.testing.assert_allclose(found.weight, expected, rtol=1e-6)


@pytest.mark.parametrize("swap", [True, False])
def test_a_frame_that_holds_another_object_is_rejected(swap: bool) -> None:
    frames = [[(HERE, 0.9)] for _ in range(9)]
    frames[4] = [(THERE, 0.9)]
    found, rows = run(made(frames), swap=swap)
    assert found.status.tolist() == [Status.PRESENT] * 4 + [Status.UNKNOWN] + [Status.PRESENT] * 4
    assert rows[4].reason == OUT_OF_ORDER and rows[3].reason == ""
    assert not found.mask[4].any() and found.weight[4] == 0
    assert rows[4].status == Status.UNKNOWN and rows[4].weight == 0
    assert (found.weight[[0, 1, 2, 3, 5, 6, 7, 8]] > 0.5).all()


def test_what_breaks_the_order_in_part_is_kept_and_weighs_less() -> None:
    frames = [[(HERE, 0.9)] for _ in range(9)]
    frames[4], frames[7], frames[8] = [(THERE, 0.9)], [((2, 12, 12, 16), 0.9)], [(None, 0.9)]
    found, _ = run(made(frames), swap=False)
    # 16 pairs lie around the fifth frame; the 8 with the sixth and seventh overlap across it.
    assert found.status[4] == Status.PRESENT
    of_the_video = 1 - 0.5 / 8  # of 8 frames with a mask, the others keep the order
    assert found.weight[4] == pytest.approx(np.cbrt(0.8 * 0.7) * 0.5 * of_the_video)
    assert found.weight[0] == pytest.approx(np.cbrt(0.8 * 0.7) * of_the_video)
    kept, _ = run(made(frames), swap=False, maximum_violation=0.49)
    assert kept.status[4] == Status.UNKNOWN


def test_a_runner_up_restores_the_order() -> None:
    frames = [[(HERE, 0.9), (THERE, 0.5)] for _ in range(9)]
    frames[4] = [(THERE, 0.72), (HERE, 0.68)]
    found, rows = run(made(frames, negative_margin=made(frames).score), swap=True)
    assert (found.status == Status.PRESENT).all()
    np.testing.assert_array_equal(found.mask[4], found.mask[3])
    assert rows[4].box_score == pytest.approx(0.68), "the figures are the chosen one's"
    assert rows[4].temporal_iou == pytest.approx(1)


def test_a_runner_up_is_not_taken_where_swaps_are_off_or_weigh_nothing() -> None:
    frames = [[(HERE, 0.9), (THERE, 0.5)] for _ in range(9)]
    frames[4] = [(THERE, 0.72), (HERE, 0.68)]
    for changes in ({"swap": False}, {"swap": True, "continuity": 0.0}):
        found, _ = run(made(frames), **changes)
        assert found.status[4] == Status.UNKNOWN, changes


def test_much_better_support_outweighs_continuity() -> None:
    frames = [[(HERE, 0.9), (THERE, 0.1)] for _ in range(9)]
    frames[4] = [(THERE, 0.99), (HERE, 0.01)]
    found, _ = run(made(frames), continuity=0.1)
    assert found.status[4] == Status.UNKNOWN


def test_disabled_passes_the_best_hypothesis_on() -> None:
    frames = [[(HERE, 0.9), (THERE, 0.5)] for _ in range(9)]
    frames[4] = [(THERE, 0.72), (HERE, 0.68)]
    found, rows = run(made(frames), enabled=False)
    assert (found.status == Status.PRESENT).all()
    assert all(row.reason == "" for row in rows)
    assert found.mask[4].any() and not (found.mask[4] & found.mask[3]).any()


def test_absent_and_unknown_frames_are_carried_through() -> None:
    frames: list[Any] = [[(HERE, 0.9)] for _ in range(6)]
    frames[1] = []
    status = [Status.PRESENT] * 6
    status[1], status[3], status[4] = Status.ABSENT, Status.UNKNOWN, Status.ABSENT
    reason = ("", "no box found", "", "in doubt", "a negative claims the box", "")
    found, rows = run(made(frames, status, reason=reason))
    assert found.status.tolist() == status
    assert [row.reason for row in rows] == list(reason)
    assert np.any(found.mask, (1, 2)).tolist() == [True, False, True, False, False, True]
    assert found.weight[3] == 0, "unknown teaches nothing"
    assert found.weight[1] == 1, "nothing was found at all: surely absent"
    assert 0 < found.weight[4] < 1, "a box was found, so less sure"


def test_what_no_positive_claims_is_surer_absent_than_what_one_does() -> None:
    frames = [[(HERE, score)] for score in (0.0, 0.1, 0.2)]
    found, _ = run(made(frames, [Status.ABSENT] * 3))
    assert (np.diff(found.weight) < 0).all() and (found.weight > 0).all()


def test_empty_masks_on_either_side_do_not_turn_a_frame_down() -> None:
    found, rows = run(made([[(None, 0.9)], [(HERE, 0.9)], [(None, 0.9)]]))
    assert found.status.tolist() == [Status.UNKNOWN, Status.PRESENT, Status.UNKNOWN]
    assert [row.reason for row in rows] == [EMPTY_MASK, "", EMPTY_MASK]


def test_an_empty_mask_is_unknown() -> None:
    frames = [[(HERE, 0.9)], [(None, 0.9)], [(HERE, 0.9)]]
    found, rows = run(made(frames), maximum_violation=1.0)
    assert found.status.tolist() == [Status.PRESENT, Status.UNKNOWN, Status.PRESENT]
    assert rows[1].reason == EMPTY_MASK
    assert found.weight[1] == 0


def test_a_rival_of_like_score_takes_weight_from_a_frame() -> None:
    """The segmenter is as sure of the wrong object as of the right one."""
    rivals = (None, 0.1, 0.36, 0.6, 0.8, 0.89, 0.9, 1.2)
    frames = [[(HERE, 0.9), *([] if rival is None else [(THERE, rival)])] for rival in rivals]
    found, _ = run(made(frames), swap=False)
    full = np.cbrt(0.8 * 0.7)
    assert found.weight[:3] == pytest.approx([full] * 3), "a clear lead"
    assert (np.diff(found.weight[2:6]) < 0).all()
    assert found.weight[5:] == pytest.approx([full * np.cbrt(LEAST_LEAD)] * 3), "kept, barely"


def test_where_scores_are_calibrated_the_probability_counts_as_much_as_the_lead() -> None:
    knots = np.array([0, 0.5, 1]), np.array([0, 0.2, 1])
    # Neither has a rival, so both lead as far as they can.
    sample = made([[(HERE, 0.5)], [(HERE, 0.75)]])
    plain, _ = run(sample)
    assert plain.weight[0] == plain.weight[1]
    known, _ = run(sample, Calibration(*knots, {}))
    expected = plain.weight * np.sqrt([0.2, 0.6]) ** (1 / 3)
    np.testing.assert_allclose(known.weight, expected, rtol=1e-4)


def test_a_lead_is_a_share_of_the_score() -> None:
    score = np.array([[0.8, 0.2, 0], [0.4, 0.1, 0], [0.5, -0.9, 0], [0.2, 0.4, 0]], np.float32)
    chosen = np.zeros(4, np.int64)
    one = np.ones(4, np.int32)
    assert leads(score, chosen, one) == pytest.approx([0.75, 0.75, 1.0, -1.0])
    assert leads(score[3:], np.ones(1, np.int64), one[:1]) == pytest.approx([0.5])
    assert leads(score[:1, :1], chosen[:1], one[:1]) == pytest.approx([1.0])


def test_the_mask_of_several_targets_is_the_union_of_theirs() -> None:
    hypotheses = made([[(HERE, 0.9), (THERE, 0.8), (None, 0.7)]] * 3)
    one, _ = run(hypotheses)
    two, rows = run(replace(hypotheses, together=np.full(3, 2, np.int32)))
    other, _ = run(made([[(THERE, 0.9)]] * 3))
    for index in range(3):
        assert np.array_equal(two.mask[index], one.mask[index] | other.mask[index])
        assert other.mask[index].any() and not (one.mask[index] & other.mask[index]).any()
    assert {row.status for row in rows} == {Status.PRESENT}


def test_several_targets_need_a_lead_over_the_others_and_not_over_each_other() -> None:
    score = np.array([[0.8, 0.8, 0.4, 0.1]] * 3, np.float32)
    together = np.array([1, 2, 3], np.int32)
    assert leads(score, np.zeros(3, np.int64), together) == pytest.approx([0, 0.5, 0.75])


def test_one_frame() -> None:
    found, [row] = run(made([[(HERE, 0.9)]]))
    assert found.status.tolist() == [Status.PRESENT]
    assert found.weight[0] == pytest.approx(np.cbrt(0.8 * 0.7))
    assert math.isnan(row.temporal_iou)


def test_a_video_in_which_nothing_was_found() -> None:
    nothing = made([[], []], logits=np.zeros((2, 3, 1, 1), np.float16))
    found, rows = run(nothing)
    assert found.mask.shape == (2, HEIGHT, WIDTH) and not np.any(found.mask)
    assert found.status.tolist() == [Status.ABSENT] * 2
    assert all(math.isnan(row.temporal_iou) for row in rows)


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.7])
def test_a_pixel_is_the_targets_where_its_probability_exceeds_the_threshold(
    threshold: float,
) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (1, 1, ROWS, COLUMNS)).astype(np.float16)
    hypotheses = made([[(HERE, 0.9)]], logits=logits)
    found, _ = run(hypotheses, threshold=threshold)
    chance = enlarge(torch.from_numpy(logits[0]), HEIGHT, WIDTH)[0].sigmoid().numpy()
    clear = np.abs(chance - threshold) > 1e-5
    np.testing.assert_array_equal(found.mask[0][clear], (chance > threshold)[clear])


def test_rows_carry_the_figures() -> None:
    hypotheses = made([[(HERE, 0.9)] for _ in range(3)])
    found, rows = run(hypotheses)
    assert [row.frame for row in rows] == [0, 1, 2]
    assert [row.frame_name for row in rows] == ["00000", "00001", "00002"]
    assert (rows[0].video, rows[0].expression) == ("v", "0")
    for row, weight in zip(rows, found.weight, strict=True):
        assert row.predicted_iou == pytest.approx(0.8) and row.stability == pytest.approx(0.7)
        assert row.agreement == pytest.approx(0.9) and row.negative_margin == pytest.approx(0.9)
        assert row.weight == pytest.approx(weight) and row.status == Status.PRESENT
    assert found.key == KEY and found.fingerprint == "digest"


def test_temporal_iou_is_with_the_neighbours_that_are_there() -> None:
    frames: list[Any] = [[(shifted(0), 0.9)], [], [(shifted(0), 0.9)], [(shifted(5), 0.9)]]
    _, rows = run(made(frames), maximum_violation=1.0)
    half = 5 / 15
    figures = [row.temporal_iou for row in rows]
    assert figures[0] == pytest.approx(1)
    assert math.isnan(figures[1])
    assert figures[2] == pytest.approx((1 + half) / 2)
    assert figures[3] == pytest.approx(half)


def giou(a: Sequence[float], b: Sequence[float]) -> float:
    """Generalised IoU of two boxes, number by number (Rezatofighi et al. 2019)."""
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = wide * high
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both / union - (hull - union) / hull


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 2.0]))
def test_the_path_is_the_best_of_all_paths(seed: int, continuity: float) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(5):
        frame = []
        for _ in range(int(rng.integers(1, 4))):
            x, y = int(rng.integers(0, 20)), int(rng.integers(0, 8))
            w, h = int(rng.integers(2, 10)), int(rng.integers(2, 8))
            frame.append(((x, y, x + w, y + h), float(rng.uniform(0, 1))))
        frames.append(frame)
    hypotheses = made(frames)
    present = np.array([0, 1, 3, 4])
    best = -np.inf
    for path in itertools.product(*(range(len(frames[t])) for t in present)):
        total = sum(
            float(hypotheses.score[t, place]) for t, place in zip(present, path, strict=True)
        )
        for (t, one), (n, two) in itertools.pairwise(zip(present, path, strict=True)):
            total += continuity / (n - t) * giou(hypotheses.box[t, one], hypotheses.box[n, two])
        if total > best:
            best, chosen = total, path
    assert tuple(smoothest_path(hypotheses, present, continuity)) == chosen


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_weights_and_masks_are_always_sound(seed: int, enabled: bool, swap: bool) -> None:
    rng = np.random.default_rng(seed)
    frames: list[Any] = []
    for _ in range(int(rng.integers(1, 7))):
        frame = []
        for _ in range(int(rng.integers(0, 3))):
            x, y = int(rng.integers(0, 20)), int(rng.integers(0, 8))
            frame.append(((x, y, x + int(rng.integers(1, 9)), y + 4), float(rng.uniform(-1, 1))))
        frames.append(frame)
    hypotheses = made(frames)
    shape = hypotheses.score.shape
    status = [int(rng.integers(0, 3)) if len(frame) else Status.ABSENT for frame in frames]
    hypotheses = made(
        frames,
        [Status(value) for value in status],
        predicted_iou=rng.uniform(-0.1, 1.2, shape).astype(np.float32),
        stability=rng.uniform(0, 1, shape).astype(np.float32),
        agreement=rng.uniform(0, 1, shape).astype(np.float32),
        negative_margin=rng.uniform(-1, 1, shape).astype(np.float32),
    )
    found, rows = run(hypotheses, enabled=enabled, swap=swap)
    assert len(rows) == len(frames)
    assert found.weight.dtype == np.float32 and found.status.dtype == np.uint8
    assert ((found.weight >= 0) & (found.weight <= 1)).all()
    assert (found.weight[found.status == Status.UNKNOWN] == 0).all()
    assert (found.weight[found.status == Status.ABSENT] > 0).all()
    shown = np.any(found.mask, (1, 2))
    np.testing.assert_array_equal(shown, found.status == Status.PRESENT)
    for before, after in zip(status, found.status, strict=True):
        assert after in (before, Status.UNKNOWN) and (before != Status.ABSENT or after == before)
