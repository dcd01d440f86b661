"""Boxes between key frames against a plain loop."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from pipeline.types import Boxes
from stages.ground.key_frames import fill_between, key_frames


def boxes(*rows: tuple[int, float, tuple[float, float, float, float]]) -> Boxes:
    """(text, score, xyxy), a text's best first."""
    texts = [text for text, _, _ in rows]
    ranks = [texts[:row].count(text) for row, text in enumerate(texts)]
    return Boxes(
        np.array([box for _, _, box in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array(texts, np.int32),
        np.array(ranks, np.int32),
    )


def plain_fill(keys: list[int], found: list[Boxes]) -> list[list[tuple[int, float, list[float]]]]:
    """(text, score, box) of every frame, text by text and best first; frame by frame."""
    frames = []
    for t in range(keys[-1] + 1):
        if t in keys:
            item = found[keys.index(t)]
            rows = zip(item.text.tolist(), item.score.tolist(), item.xyxy.tolist(), strict=True)
            frames.append(list(rows))
            continue
        place = max(index for index, key in enumerate(keys) if key < t)
        one, other = found[place], found[place + 1]
        share = (t - keys[place]) / (keys[place + 1] - keys[place])
        rows_found = []
        for text in sorted({*one.text.tolist(), *other.text.tolist()}):
            a = [row for row in range(len(one)) if one.text[row] == text]
            b = [row for row in range(len(other)) if other.text[row] == text]
            swapped = len(a) > len(b)
            few, many = (b, a) if swapped else (a, b)
            best = min(
                permutations(many, len(few)),
                key=lambda chosen: sum(
                    (
                        (
                            (other if swapped else one).xyxy[p].astype(float)
                            - (one if swapped else other).xyxy[q]
                        )
                        ** 2
                    ).sum()
                    for p, q in zip(few, chosen, strict=True)
                ),
            )
            pairs = [(q, p) if swapped else (p, q) for p, q in zip(few, best, strict=True)]
            for p, q in pairs:
                box = one.xyxy[p] * (1 - share) + other.xyxy[q] * share
                score = float(one.score[p]) * (1 - share) + float(other.score[q]) * share
                rows_found.append((text, score, box.tolist()))
            if share <= 0.5:
                left = [p for p in a if p not in {pair[0] for pair in pairs}]
                rows_found += [(text, float(one.score[p]), one.xyxy[p].tolist()) for p in left]
            else:
                right = [q for q in b if q not in {pair[1] for pair in pairs}]
                rows_found += [(text, float(other.score[q]), other.xyxy[q].tolist()) for q in right]
        frames.append(sorted(rows_found, key=lambda row: (row[0], -row[1])))
    return frames


@pytest.mark.parametrize(
    ("frames", "every", "expected"),
    [
        (0, 3, []),
        (1, 3, [0]),
        (7, 3, [0, 3, 6]),
        (8, 3, [0, 3, 6, 7]),
        (5, 1, [0, 1, 2, 3, 4]),
        (4, 9, [0, 3]),
    ],
)
def test_key_frames_hold_the_first_and_the_last(
    frames: int, every: int, expected: list[int]
) -> None:
    assert key_frames(frames, every) == expected


@pytest.mark.parametrize("seed", range(12))
def test_filled_as_a_plain_loop_fills(seed: int) -> None:
    rng = np.random.default_rng(seed)
    every = int(rng.integers(2, 5))
    keys = key_frames(int(rng.integers(2, 12)), every)
    found = []
    for _ in keys:
        rows = []
        for text in range(3):
            scores = sorted(rng.random(rng.integers(0, 4)), reverse=True)
            rows += [(text, float(s), tuple(rng.uniform(0, 99, 4))) for s in scores]
        found.append(boxes(*rows))  # type: ignore[arg-type]
    got, expected = fill_between(keys, found), plain_fill(keys, found)
    assert len(got) == len(expected) == keys[-1] + 1
    for one, other in zip(got, expected, strict=True):
        assert one.text.tolist() == [text for text, _, _ in other]
        assert np.allclose(one.score, [score for _, score, _ in other], atol=1e-6)
        assert np.allclose(one.xyxy, np.reshape([box for _, _, box in other], (-1, 4)), atol=1e-4)
        assert (one.xyxy.dtype, one.score.dtype) == (np.float32, np.float32)
        for text in range(3):
            ranks = one.rank[one.text == text]
            assert ranks.tolist() == list(range(len(ranks)))


def test_ranks_that_swap_do_not_make_boxes_swap_places() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (50.0, 0.0, 60.0, 10.0)
    found = fill_between(
        [0, 2], [boxes((0, 0.9, left), (0, 0.5, right)), boxes((0, 0.8, right), (0, 0.7, left))]
    )
    assert found[1].xyxy.tolist() == [list(left), list(right)]
    assert np.allclose(found[1].score, [0.8, 0.65])


def test_nothing_found_stays_nothing() -> None:
    assert [len(frame) for frame in fill_between([0, 3], [boxes(), boxes()])] == [0, 0, 0, 0]
    assert fill_between([], []) == []
    assert len(fill_between([0], [boxes((0, 0.5, (0, 0, 1, 1)))])) == 1
