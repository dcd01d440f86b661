"""Interpolates boxes between key frames.

Letters: T frames, K texts, R ranked boxes of a text, m frames of a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.types import Boxes


def key_frames(frames: int, every: int) -> list[int]:
    """Returns every ``every``-th of ``frames`` positions, and always the first and the last."""
    if frames < 1:
        return []
    return sorted({*range(0, frames, every), frames - 1})


def fill_between(keys: Sequence[int], found: Sequence[Boxes]) -> list[Boxes]:
    """Returns the boxes of all frames, given those of the key frames.

    In a gap, a text's boxes in the key frame before are paired with those in the key frame after,
    such that the sum of the squared movements of their corners is smallest. Box and score of a pair
    are interpolated linearly. A box without a partner stays in place in the half of the gap that is
    nearer to its key frame, and does not exist in the other half. The middle belongs to the earlier
    key frame. Boxes are ranked again by score.

    Args:
        keys: positions of the key frames, ascending; the first is 0.
        found: boxes of each key frame, ordered by text, then rank.

    Returns:
        The boxes of T = last key + 1 frames, ordered by text, then rank. Those of key frames are
        unchanged.
    """
    filled: list[Boxes] = []
    for place, (before, after) in enumerate(pairwise(keys)):
        filled.append(found[place])
        if after - before > 1:
            shares = np.arange(1, after - before) / (after - before)
            filled += _gap(found[place], found[place + 1], shares)
    return [*filled, *found[-1:]]


def _gap(before: Boxes, after: Boxes, shares: NDArray[np.float64]) -> list[Boxes]:
    """Returns the boxes of m frames, at ``shares`` of the way from one key frame to the next."""
    xyxy: list[NDArray[np.float64]] = []
    score: list[NDArray[np.float64]] = []
    text: list[NDArray[np.int32]] = []
    shown: list[NDArray[np.bool_]] = []
    way = shares[:, None]
    for row in np.union1d(before.text, after.text):
        left, right = np.flatnonzero(before.text == row), np.flatnonzero(after.text == row)
        one, other = _pairs(before.xyxy[left], after.xyxy[right])
        paired_left, paired_right = left[one], right[other]
        alone_left = np.setdiff1d(left, paired_left)
        alone_right = np.setdiff1d(right, paired_right)
        low, high = before.xyxy[paired_left], after.xyxy[paired_right]
        moved = low * (1 - way[..., None]) + high * way[..., None]
        stays = np.concatenate([before.xyxy[alone_left], after.xyxy[alone_right]])
        xyxy.append(np.concatenate([moved, np.broadcast_to(stays, (len(way), *stays.shape))], 1))
        between = before.score[paired_left] * (1 - way) + after.score[paired_right] * way
        kept = np.concatenate([before.score[alone_left], after.score[alone_right]])
        score.append(np.concatenate([between, np.broadcast_to(kept, (len(way), len(kept)))], 1))
        count = len(one) + len(stays)
        text.append(np.full(count, row, np.int32))
        near = np.ones((len(way), count), np.bool_)
        first_half = way <= 0.5
        near[:, len(one) : len(one) + len(alone_left)] = first_half
        near[:, len(one) + len(alone_left) :] = ~first_half
        shown.append(near)
    if not text:
        return [before] * len(shares)
    texts = np.concatenate(text)
    return [
        _ranked(boxes[there], scores[there], texts[there])
        for boxes, scores, there in zip(
            np.concatenate(xyxy, 1), np.concatenate(score, 1), np.concatenate(shown, 1), strict=True
        )
    ]


def _pairs(
    left: NDArray[np.float32], right: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs boxes [n, 4] with [m, 4]; returns the rows of min(n, m) pairs."""
    # Squares, for sums of plain differences are often equal for more than one pairing.
    cost = np.square(left[:, None].astype(np.float64) - right[None]).sum(-1)
    one, other = linear_sum_assignment(cost)
    return one, other


def _ranked(
    xyxy: NDArray[np.float64], score: NDArray[np.float64], text: NDArray[np.int32]
) -> Boxes:
    """Returns the boxes of one frame, text by text, best first."""
    order = np.lexsort((-score, text))
    text = text[order]
    first = np.searchsorted(text, text)
    rank = (np.arange(len(text)) - first).astype(np.int32)
    return Boxes(xyxy[order].astype(np.float32), score[order].astype(np.float32), text, rank)
