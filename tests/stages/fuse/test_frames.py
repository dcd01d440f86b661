"""Fusion held to its formula (WSRVOS): weights, votes of the positives, gate of the negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import FuseConfig
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    Status,
)
from stages.fuse.frames import fuse_frames, telling_negatives
from stages.fuse.votes import CLAIMED_BY_NEGATIVE, IN_DOUBT, NOTHING_FOUND, UNCLAIMED
from stages.rank import fused_logits

KEY = SampleKey("shapes", "train", "v", "0")
H, W = 6, 10
LEFT, RIGHT, LOW = (5.0, 5.0, 35.0, 45.0), (60.0, 10.0, 90.0, 50.0), (20.0, 60.0, 80.0, 90.0)
CONFIG = FuseConfig(
    absent_below=0.25,
    uncertain_below=0.3,
    telling_share=1.0,  # every negative objects, as in one frame it cannot but
    claim_margin=0.1,
    negative_weight=0.5,
    hypotheses=3,
)


def sample(confidences: Sequence[float], negatives: int = 0) -> Augmentation:
    return Augmentation(
        KEY,
        tuple(Positive(f"p{row}", value) for row, value in enumerate(confidences)),
        tuple(Negative(f"n{row}", "attribute") for row in range(negatives)),
        Provenance("test", "0", "0", 0),
    )


def texts_of(augmentation: Augmentation) -> list[str]:
    """The texts of a video, another expression's among them, in an order of their own."""
    own = [item.text for item in augmentation.positives]
    own += [item.text for item in augmentation.negatives]
    return ["someone else's", *reversed(own), "and another's"]


Row = tuple[str, tuple[float, float, float, float], float, int, int]
"""Text, box, score, rank, candidate."""


def frame(
    rows: Sequence[Row], texts: Sequence[str], logits: NDArray[np.float16]
) -> tuple[Boxes, Candidates]:
    boxes = Boxes(
        np.array([row[1] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[2] for row in rows], np.float32),
        np.array([texts.index(row[0]) for row in rows], np.int32),
        np.array([row[3] for row in rows], np.int32),
    )
    count = len(logits)
    candidates = Candidates(
        logits,
        np.linspace(0.5, 0.9, count).astype(np.float32),
        np.linspace(0.9, 0.6, count).astype(np.float32),
        np.array([row[4] for row in rows], np.int32),
    )
    return boxes, candidates


def masks(count: int, seed: int = 0) -> NDArray[np.float16]:
    return np.random.default_rng(seed).normal(0, 4, (count, H, W)).astype(np.float16)


class Found(SimpleNamespace):
    """Hypotheses with the logits [T, P, h, w] of their masks; zeros past a frame's count."""


def run(
    augmentation: Augmentation,
    frames: Sequence[tuple[Sequence[Row], NDArray[np.float16]]],
    config: FuseConfig = CONFIG,
) -> Any:
    texts = texts_of(augmentation)
    made = [frame(rows, texts, logits) for rows, logits in frames]
    candidates = [c for _, c in made]
    found = fuse_frames(
        augmentation, texts, [b for b, _ in made], [c.scores for c in candidates], config
    )
    logits = np.zeros((*found.score.shape, H, W), np.float32)
    for t, count in enumerate(found.count):
        for place in range(count):
            logits[t, place] = fused_logits(found, candidates, t, place).numpy()
    return Found(**vars(found), logits=logits)


def gate(support: float, claim: float | None = None, rank: int = 0) -> tuple[Status, str]:
    """What becomes of one instance with this support and a negative's claim on it."""
    rows: list[Row] = [("p0", LEFT, support, 0, 0)]
    if claim is not None:
        rows.append(("n0", LEFT, claim, rank, 0))
    found = run(sample([1.0], negatives=1), [(rows, masks(1))])
    return Status(found.status[0]), found.reason[0]


@pytest.mark.parametrize("confidences", [[1.0], [1.0, 0.5], [1.0, 0.9, 0.6, 0.05]])
def test_one_instance_is_the_confidence_weighted_sum(confidences: list[float]) -> None:
    count, frames = len(confidences), []
    for number in range(3):
        rows: list[Row] = [
            (f"p{k}", (5.0 + k / 8, 5.0, 35.0, 45.0), 0.5 + 0.1 * k, 0, k) for k in range(count)
        ]
        frames.append((rows, masks(count, number)))
    found = run(sample(confidences), frames)
    assert found.count.tolist() == [1, 1, 1]
    for t, (_, logits) in enumerate(frames):
        expected = np.zeros((H, W))
        for k in range(count):
            weight = confidences[k] / sum(confidences)
            for y in range(H):
                for x in range(W):
                    expected[y, x] += weight * float(logits[k, y, x])
        np.testing.assert_allclose(found.logits[t, 0], expected, rtol=2e-3, atol=2e-3)
        chance = 1 / (1 + np.exp(-expected))
        decided = np.abs(chance - 0.4) > 1e-3
        ours = found.logits[t, 0].astype(np.float64) > np.log(0.4 / 0.6)
        assert (ours == (chance > 0.4))[decided].all()


def test_positives_that_share_a_candidate_each_count() -> None:
    rows: list[Row] = [
        ("p0", LEFT, 0.5, 0, 1),
        ("p1", LEFT, 0.6, 0, 0),
        ("p2", LEFT, 0.6, 0, 1),
    ]
    logits = masks(2)
    found = run(sample([1.0, 0.5, 0.5]), [(rows, logits)])
    expected = 0.75 * logits[1].astype(float) + 0.25 * logits[0].astype(float)
    np.testing.assert_allclose(found.logits[0, 0], expected, rtol=2e-3, atol=2e-3)
    assert found.predicted_iou[0, 0] == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)
    assert found.stability[0, 0] == pytest.approx(0.75 * 0.6 + 0.25 * 0.9)


def test_weights_are_of_those_that_see_the_instance() -> None:
    rows: list[Row] = [("p0", LEFT, 0.5, 0, 0), ("p2", LEFT, 0.6, 0, 1)]
    logits = masks(2)
    found = run(sample([1.0, 0.7, 0.25]), [(rows, logits)])
    expected = 0.8 * logits[0].astype(float) + 0.2 * logits[1].astype(float)
    np.testing.assert_allclose(found.logits[0, 0], expected, rtol=2e-3, atol=2e-3)
    total = 1.0 + 0.7 + 0.25
    assert found.agreement[0, 0] == pytest.approx(1.25 / total), "but agreement is of them all"
    assert found.score[0, 0] == pytest.approx((0.5 * 1.0 + 0.6 * 0.25) / total)


def test_confidences_count_relative_to_each_other() -> None:
    rows: list[Row] = [("p0", LEFT, 0.5, 0, 0), ("p1", LEFT, 0.6, 0, 1)]
    large = run(sample([1.0, 0.5]), [(rows, masks(2))])
    small = run(sample([0.2, 0.1]), [(rows, masks(2))])
    for name in ("logits", "score", "agreement", "predicted_iou"):
        np.testing.assert_allclose(getattr(large, name), getattr(small, name), rtol=1e-6)


def test_a_positive_without_confidence_is_as_if_it_were_not_there() -> None:
    rows: list[Row] = [("p0", LEFT, 0.5, 0, 0), ("p1", RIGHT, 0.9, 0, 1)]
    with_it = run(sample([1.0, 0.0]), [(rows, masks(2))])
    without = run(sample([1.0]), [(rows[:1], masks(2))])
    assert with_it.count.tolist() == [1]
    np.testing.assert_array_equal(with_it.logits, without.logits)
    np.testing.assert_array_equal(with_it.score, without.score)
    alike = run(sample([0.0, 0.0]), [(rows, masks(2))])
    assert np.isfinite(alike.logits).all() and alike.agreement[0, 0] == 0.5


def test_positives_vote_for_the_instance() -> None:
    rows: list[Row] = [
        ("p0", RIGHT, 0.9, 0, 1),
        ("p0", LEFT, 0.2, 1, 0),
        ("p1", LEFT, 0.8, 0, 0),
        ("p2", LEFT, 0.7, 0, 0),
        ("p2", LOW, 0.1, 1, 2),
    ]
    logits = masks(3)
    found = run(sample([1.0, 0.9, 0.8]), [(rows, logits)])
    total = 2.7
    left = (0.2 * 1.0 + 0.8 * 0.9 + 0.7 * 0.8) / total
    assert found.count[0] == 3
    assert found.score[0] == pytest.approx([left, 0.9 / total, 0.08 / total])
    assert found.agreement[0] == pytest.approx([1.7 / total, 1.0 / total, 0.0])
    assert found.box_score[0] == pytest.approx([0.2, 0.9, 0.0]), "the original's own"
    np.testing.assert_array_equal(found.box[0], np.array([LEFT, RIGHT, LOW], np.float32))
    for place, candidate in enumerate((0, 1, 2)):
        np.testing.assert_allclose(found.logits[0, place], logits[candidate], rtol=1e-3)


def test_boxes_are_one_instance_from_the_overlap_on() -> None:
    near: list[Row] = [("p0", (0, 0, 100, 10), 0.5, 0, 0), ("p1", (0, 0, 80, 10), 0.4, 0, 1)]
    for overlap, count in ((0.8, 1), (0.81, 2)):
        config = CONFIG.model_copy(update={"same_box_iou": overlap})
        assert run(sample([1.0, 1.0]), [(near, masks(2))], config).count[0] == count


def test_a_box_that_is_near_two_instances_joins_the_nearer() -> None:
    rows: list[Row] = [
        ("p0", (0, 0, 100, 10), 0.9, 0, 0),
        ("p1", (30, 0, 130, 10), 0.8, 0, 1),
        ("p2", (20, 0, 120, 10), 0.3, 0, 2),
    ]
    config = CONFIG.model_copy(update={"same_box_iou": 0.6})
    found = run(sample([1.0, 1.0, 1.0]), [(rows, masks(3))], config)
    assert found.count[0] == 2
    assert found.agreement[0] == pytest.approx([2 / 3, 1 / 3, 0])
    np.testing.assert_array_equal(found.box[0, 0], np.array(rows[1][1], np.float32))


def test_a_box_stands_for_an_instance_where_its_score_is_best() -> None:
    rows: list[Row] = [
        ("p0", (5.0, 5.0, 35.0, 45.0), 0.4, 0, 0),
        ("p1", (6.0, 5.0, 36.0, 45.0), 0.9, 0, 1),
        ("n0", (7.0, 5.0, 37.0, 45.0), 0.95, 1, 2),
    ]
    found = run(sample([1.0, 0.2], negatives=1), [(rows, masks(3))])
    assert found.box[0, 0, 0] == 6.0, "a negative's box stands for nothing"


@pytest.mark.parametrize(
    ("support", "status", "reason"),
    [
        (0.2, Status.ABSENT, UNCLAIMED),
        (0.27, Status.UNKNOWN, IN_DOUBT),
        (0.35, Status.PRESENT, ""),
        (1.0, Status.PRESENT, ""),
    ],
)
def test_the_gate_by_support(support: float, status: Status, reason: str) -> None:
    assert gate(support) == (status, reason)


@pytest.mark.parametrize(
    ("claim", "status", "reason"),
    [
        (0.3, Status.PRESENT, ""),
        (0.5, Status.PRESENT, ""),
        (0.54, Status.PRESENT, ""),
        (0.57, Status.UNKNOWN, IN_DOUBT),
        (0.65, Status.ABSENT, CLAIMED_BY_NEGATIVE),
    ],
)
def test_the_gate_by_a_negatives_claim(claim: float, status: Status, reason: str) -> None:
    assert gate(0.5, claim) == (status, reason)


def test_a_negatives_runner_up_claims_nothing() -> None:
    assert gate(0.5, 0.9, rank=1) == (Status.PRESENT, "")


def test_the_strongest_negative_counts() -> None:
    rows: list[Row] = [
        ("p0", LEFT, 0.5, 0, 0),
        ("n0", LEFT, 0.4, 0, 0),
        ("n1", LEFT, 0.8, 0, 0),
        ("n2", RIGHT, 0.9, 0, 1),
    ]
    found = run(sample([1.0], negatives=3), [(rows, masks(2))])
    assert found.negative_margin[0, 0] == pytest.approx(0.5 - 0.8)
    assert found.score[0, 0] == pytest.approx(0.5 - 0.5 * 0.3)
    assert found.count[0] == 1, "what only negatives see is no hypothesis"


def test_a_claimed_instance_gives_way_to_one_that_is_not() -> None:
    rows: list[Row] = [
        ("p0", LEFT, 0.6, 0, 0),
        ("p0", RIGHT, 0.5, 1, 1),
        ("n0", LEFT, 0.95, 0, 0),
    ]
    found = run(sample([1.0], negatives=1), [(rows, masks(2))])
    assert found.box[0, 0].tolist() == list(RIGHT)
    assert found.score[0] == pytest.approx([0.5, 0.6 - 0.5 * 0.35, 0])
    assert found.status[0] == Status.PRESENT
    kept = CONFIG.model_copy(update={"negative_weight": 0.0})
    found = run(sample([1.0], negatives=1), [(rows, masks(2))], kept)
    assert found.box[0, 0].tolist() == list(LEFT)
    assert found.status[0] == Status.ABSENT


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("n0", LEFT, 0.9, 0, 0)],
        [("someone else's", LEFT, 0.9, 0, 0), ("and another's", RIGHT, 0.8, 0, 0)],
    ],
)
def test_a_frame_without_a_box_of_a_positive_is_absent(rows: list[Row]) -> None:
    there: list[Row] = [("p0", LEFT, 0.6, 0, 0)]
    found = run(sample([1.0], negatives=1), [(rows, masks(1)), (there, masks(1))])
    assert found.status.tolist() == [Status.ABSENT, Status.PRESENT]
    assert found.reason == (NOTHING_FOUND, "")
    assert found.count.tolist() == [0, 1]
    assert not found.logits[0].any() and not found.score[0].any()


def test_a_video_without_any_box() -> None:
    none = np.zeros((0, 1, 1), np.float16)
    found = run(sample([1.0, 0.5]), [([], none), ([], none)])
    assert found.count.tolist() == [0, 0] and found.reason == (NOTHING_FOUND,) * 2
    assert (found.status == Status.ABSENT).all()
    assert found.logits.shape[:2] == (2, 3)


def test_other_expressions_boxes_change_nothing() -> None:
    own: list[Row] = [("p0", LEFT, 0.6, 0, 0), ("n0", RIGHT, 0.4, 0, 1)]
    others: list[Row] = [
        ("someone else's", LEFT, 0.99, 0, 1),
        ("and another's", (6.0, 5.0, 36.0, 45.0), 0.98, 0, 1),
    ]
    alone = run(sample([1.0], negatives=1), [(own, masks(2))])
    among = run(sample([1.0], negatives=1), [([others[0], *own, others[1]], masks(2))])
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(getattr(among, name), value)


def test_no_more_hypotheses_than_asked_for_best_first() -> None:
    boxes = [(10.0 * n, 0.0, 10.0 * n + 8, 8.0) for n in range(6)]
    rows: list[Row] = [("p0", box, 0.1 + 0.1 * n, 5 - n, n) for n, box in enumerate(boxes)]
    for kept in (1, 2, 9):
        config = CONFIG.model_copy(update={"hypotheses": kept})
        found = run(sample([1.0]), [(rows, masks(6))], config)
        count = min(kept, 6)
        assert found.count[0] == count
        assert found.score[0, :count] == pytest.approx([0.6, 0.5, 0.4, 0.3, 0.2, 0.1][:count])
        assert not found.score[0, count:].any() and not found.logits[0, count:].any()
        assert found.logits.shape == (1, kept, H, W) and found.box.shape == (1, kept, 4)


def test_shapes_and_types() -> None:
    found = run(sample([1.0]), [([("p0", LEFT, 0.6, 0, 0)], masks(1))] * 4)
    assert found.key == KEY
    assert found.share.dtype == np.float32 and found.logits.shape == (4, 3, H, W)
    assert found.count.dtype == np.int32 and found.status.dtype == np.uint8
    assert len(found.reason) == 4
    for name in (
        "score",
        "box_score",
        "agreement",
        "negative_margin",
        "predicted_iou",
        "stability",
    ):
        value = getattr(found, name)
        assert value.shape == (4, 3) and value.dtype == np.float32, name


def literal(
    augmentation: Augmentation, rows: Sequence[Row], config: FuseConfig
) -> list[dict[str, Any]]:
    """Fusion of boxes that stand at four places far apart, read off the module's words."""
    confidence = {item.text: item.confidence for item in augmentation.positives}
    negatives = {item.text for item in augmentation.negatives}
    total = sum(confidence.values())
    found = []
    for place in sorted({row[1] for row in rows}):
        here = [row for row in rows if row[1] == place]
        best: dict[str, Row] = {}
        for row in here:
            if row[0] not in best or row[2] > best[row[0]][2]:
                best[row[0]] = row
        voters = {text: row for text, row in best.items() if text in confidence}
        if not voters:
            continue
        support = sum(confidence[text] / total * row[2] for text, row in voters.items())
        claims = [row[2] for text, row in best.items() if text in negatives and row[3] == 0]
        claim = max(claims, default=0.0)
        agreeing = sum(confidence[text] for text, row in voters.items() if row[3] == 0) / total
        share = sum(confidence[text] for text in voters)
        found.append(
            {
                "box": place,
                "support": support,
                "score": support - config.negative_weight * max(0.0, claim - support),
                "margin": support - claim,
                "agreement": agreeing,
                "votes": {row[4]: 0.0 for row in voters.values()},
            }
        )
        for text, row in voters.items():
            found[-1]["votes"][row[4]] += confidence[text] / share
    return sorted(found, key=lambda item: -item["score"])


@given(st.integers(0, 10_000))
def test_any_frame_equals_a_literal_reading(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positives, negatives = int(rng.integers(1, 5)), int(rng.integers(0, 4))
    augmentation = sample([1.0, *rng.uniform(0.1, 1, positives - 1).round(3)], negatives)
    places = [LEFT, RIGHT, LOW, (200.0, 0.0, 230.0, 40.0)]
    rows: list[Row] = []
    names = [f"p{k}" for k in range(positives)] + [f"n{k}" for k in range(negatives)]
    for name in names:
        chosen = rng.permutation(4)[: int(rng.integers(0, 4))]
        scores = np.sort(rng.uniform(0, 1, len(chosen)).astype(np.float32))[::-1]
        for rank, place in enumerate(chosen):
            rows.append((name, places[place], float(scores[rank]), rank, int(place)))
    logits = masks(4, seed)
    found = run(augmentation, [(rows, logits)])
    expected = literal(augmentation, rows, CONFIG)
    assert found.count[0] == min(len(expected), CONFIG.hypotheses)
    for place, item in enumerate(expected[: CONFIG.hypotheses]):
        assert found.score[0, place] == pytest.approx(item["score"], abs=1e-6)
        assert found.negative_margin[0, place] == pytest.approx(item["margin"], abs=1e-6)
        assert found.agreement[0, place] == pytest.approx(item["agreement"], abs=1e-6)
        np.testing.assert_array_equal(found.box[0, place], np.array(item["box"], np.float32))
        mask = sum(share * logits[row].astype(float) for row, share in item["votes"].items())
        np.testing.assert_allclose(found.logits[0, place], mask, rtol=2e-3, atol=2e-3)
    if expected:
        support, margin = expected[0]["support"], expected[0]["margin"]
        present = support >= CONFIG.uncertain_below and margin >= -CONFIG.claim_margin / 2
        absent = support < CONFIG.absent_below or margin < -CONFIG.claim_margin
        edges = (CONFIG.uncertain_below, CONFIG.absent_below)
        if min(abs(support - e) for e in edges) > 1e-6 and abs(margin) > 1e-6:
            assert (found.status[0] == Status.PRESENT) == present
            assert (found.status[0] == Status.ABSENT) == absent


def test_a_negative_objects_only_where_it_has_an_instance_of_its_own() -> None:
    """n0 takes what the positive takes in every frame; n1 has an object of its own, which the
    positive falls back on in the last frame, where its target is gone."""
    both: list[Row] = [
        ("p0", LEFT, 0.6, 0, 0),
        ("p0", RIGHT, 0.2, 1, 1),
        ("n0", LEFT, 0.9, 0, 0),
        ("n1", RIGHT, 0.9, 0, 1),
    ]
    gone: list[Row] = [("p0", RIGHT, 0.4, 0, 0), ("n0", RIGHT, 0.5, 0, 0), ("n1", RIGHT, 0.9, 0, 0)]
    config = CONFIG.model_copy(update={"telling_share": 0.5})
    frames = [(both, masks(2)), (both, masks(2)), (gone, masks(1))]
    found = run(sample([1.0], negatives=2), frames, config)
    assert found.status.tolist() == [Status.PRESENT, Status.PRESENT, Status.ABSENT]
    assert found.reason[2] == CLAIMED_BY_NEGATIVE


def test_a_negative_is_telling_by_its_share_of_the_frames() -> None:
    support = np.array([0.9, 0.1])
    on_it, beside = np.array([[True, False]]), np.array([[False, True]])
    some, none = np.array([True]), np.array([False])
    frames = [(support, on_it, some), (support, beside, some), (support, beside & False, none)]
    assert telling_negatives(frames, 1, 0.5).tolist() == [True]
    assert telling_negatives(frames, 1, 0.4).tolist() == [False]
    assert telling_negatives([], 2, 0.5).tolist() == [True, True]


def test_positives_weigh_by_confidence_times_similarity() -> None:
    one = sample([1.0, 0.5], negatives=0)
    less = replace(one, positives=(one.positives[0], replace(one.positives[1], similarity=0.5)))
    rows: list[Row] = [("p0", LEFT, 0.8, 0, 0), ("p1", RIGHT, 0.8, 0, 1)]
    found = run(less, [(rows, masks(2))])
    assert found.agreement[0, :2].tolist() == pytest.approx([1 / 1.25, 0.25 / 1.25])
