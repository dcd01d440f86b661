"""The guarantee holds for exchangeable videos, and says nothing where labels are too few."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.evaluation.guarantee import LEVELS, Labels, drift, fit, held_out, least_videos


def drawn(videos: int, seed: int, wrong: float = 0.2, masks: int = 8) -> Labels:
    """Masks of videos that are right or wrong together; the signal knows it, with errors."""
    rng = np.random.default_rng(seed)
    hard = np.repeat(rng.random(videos), masks)
    bad = rng.random(videos * masks) < wrong * 2 * hard
    j = np.where(bad, rng.uniform(0, 0.7, bad.shape), rng.uniform(0.8, 1, bad.shape))
    signal = np.clip(np.where(bad, 0.45, 0.75) + rng.normal(0, 0.15, bad.shape), 0, 1)
    return Labels([f"v{n // masks}" for n in range(videos * masks)], signal, j)


def test_the_share_of_wrong_masks_stays_within_the_promise() -> None:
    kept, wrong = [], []
    for seed in range(60):
        made = fit(drawn(30, seed), 0.9)
        new = drawn(30, 1000 + seed)
        keep = made.lower(new.signal) >= 0.8
        kept.append(keep.mean())
        wrong.append((new.j[keep] < 0.8).mean() if keep.any() else 0)
    # Without a promise a fifth of the masks is wrong.
    assert np.mean(drawn(300, 7).j < 0.8) > 0.15
    assert np.mean(wrong) <= 0.1
    assert np.mean(kept) > 0.4


def test_too_few_videos_promise_nothing() -> None:
    assert [least_videos(share) for share in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    perfect = Labels([f"v{n}" for n in range(8)], np.full(8, 0.9), np.ones(8))
    made = fit(perfect, 0.9)
    assert all(math.isinf(limit) for limit in made.thresholds)
    assert made.lower(np.array([1.0])).tolist() == [0]
    one_more = Labels([*perfect.video, "v8"], np.full(9, 0.9), np.ones(9))
    assert fit(one_more, 0.9).lower(np.array([0.9, 0.8])).tolist() == [0.95, 0]


labels = st.lists(
    st.tuples(st.integers(0, 12), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60
).map(
    lambda rows: Labels(
        [f"v{video}" for video, _, _ in rows],
        np.array([signal for _, signal, _ in rows]),
        np.array([j for _, _, j in rows]),
    )
)


@given(labels, st.sampled_from([0.5, 0.8, 0.9]))
def test_promises_and_predictions_rise_with_the_signal(found: Labels, confidence: float) -> None:
    made = fit(found, confidence)
    assert list(made.thresholds) == sorted(made.thresholds)
    signal = np.linspace(0, 1, 50)
    lower, predicted = made.lower(signal), made.predicted(signal)
    assert (np.diff(lower) >= 0).all() and set(lower.tolist()) <= {0.0, *LEVELS}
    assert (np.diff(predicted) >= -1e-12).all()
    assert 0 <= predicted.min() <= predicted.max() <= 1


@given(labels)
def test_the_order_of_the_labels_does_not_matter(found: Labels) -> None:
    turned = Labels(found.video[::-1], found.signal[::-1], found.j[::-1])
    one, other = fit(found, 0.8), fit(turned, 0.8)
    assert one.thresholds == other.thresholds


@given(labels)
def test_every_threshold_meets_its_condition(found: Labels) -> None:
    made = fit(found, 0.8)
    videos = found.videos
    video = np.array(found.video)
    for level, limit in zip(LEVELS, made.thresholds, strict=True):
        if math.isinf(limit):
            continue
        keep = found.signal >= limit
        shares = [
            [(keep & (found.j < level))[video == name].mean(), keep[video == name].mean()]
            for name in videos
        ]
        wrong, kept = np.sum(shares, axis=0)
        assert (1 + wrong) / (len(videos) + 1) <= 0.2 * kept / len(videos) + 1e-9


def test_held_out_videos_are_counted_once() -> None:
    found = held_out(drawn(20, 3), 0.8, 0.8)
    assert found.masks == 160
    assert 0 < found.kept < 1 and found.wrong < 0.3
    with pytest.raises(ValueError, match="two or more"):
        held_out(Labels(["v"], np.ones(1), np.ones(1)), 0.8)


def test_other_videos_are_told_apart() -> None:
    known = drawn(40, 0)
    same, other = drawn(40, 1), drawn(40, 1)
    assert drift(known, same.video, same.signal) > 0.01
    assert drift(known, other.video, other.signal * 0.6) < 0.01
    assert drift(known, [], np.zeros(0)) == 1


def test_nothing_is_made_of_no_labels() -> None:
    with pytest.raises(ValueError, match="0 labels"):
        fit(Labels([], np.zeros(0), np.zeros(0)))
