"""What fusion by frames and fusion by tracks share.

Letters: K positives, N negatives, T frames, P hypotheses of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Augmentation, Hypotheses, Status

NOTHING_FOUND = "no box found"
UNCLAIMED = "no expression claims the box"
CLAIMED_BY_NEGATIVE = "a negative claims the box"
IN_DOUBT = "in doubt between present and absent"
NOT_SEEN = "the chosen object is not seen"


def with_votes(augmentation: Augmentation) -> tuple[Augmentation, NDArray[np.float64]]:
    """Returns a sample with the positives that have a vote, and their weights (WSRVOS, w_k).

    A positive that nobody believes in has no vote; if all are so, each has the same.

    Returns:
        The sample, and float64 [K], which sums to 1.
    """
    believed = [item for item in augmentation.positives if item.confidence * item.similarity > 0]
    if not believed:
        count = len(augmentation.positives)
        return augmentation, np.full(count, 1 / count)
    weight = np.array([item.confidence * item.similarity for item in believed])
    return replace(augmentation, positives=tuple(believed)), weight / weight.sum()


def no_hypotheses(augmentation: Augmentation, frames: int, kept: int) -> Hypotheses:
    """Returns hypotheses to be filled in: none in any of T frames, and the target absent."""
    voters = len(augmentation.positives)
    return Hypotheses(
        key=augmentation.key,
        candidate=np.full((frames, kept, voters), -1, np.int32),
        share=np.zeros((frames, kept, voters), np.float32),
        count=np.zeros(frames, np.int32),
        box=np.zeros((frames, kept, 4), np.float32),
        score=np.zeros((frames, kept), np.float32),
        box_score=np.zeros((frames, kept), np.float32),
        agreement=np.zeros((frames, kept), np.float32),
        negative_margin=np.zeros((frames, kept), np.float32),
        predicted_iou=np.zeros((frames, kept), np.float32),
        stability=np.zeros((frames, kept), np.float32),
        status=np.full(frames, Status.ABSENT, np.uint8),
        reason=(),
    )


class Sentences:
    """Which of the sample's K + N sentences, positives first, a text of the video is; a text may be
    several.

    Attributes:
        count: K + N.
    """

    def __init__(self, augmentation: Augmentation, texts: Sequence[str]) -> None:
        row_of = {text: row for row, text in enumerate(texts)}
        said = [item.text for item in augmentation.positives]
        said += [item.text for item in augmentation.negatives]
        rows = np.array([row_of[text] for text in said], np.intp)
        self.count = len(said)
        self._sentences = np.argsort(rows, kind="stable")
        self._texts = rows[self._sentences]

    def answers(self, text: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(row of a box, sentence that it answers) of every such pair, by row, then sentence.

        Args:
            text: int32 [n], row of the text that each box answers.
        """
        low = np.searchsorted(self._texts, text, "left")
        counts = np.searchsorted(self._texts, text, "right") - low
        rows = np.repeat(np.arange(len(text)), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return rows, self._sentences[np.repeat(low, counts) + np.arange(len(rows)) - before]


def shares(
    member: NDArray[np.intp], weight: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The weights of the candidates in the mask of an instance (WSRVOS, w_k of the sum over k).

    Args:
        member: [K], the candidate of each positive in the instance; -1 without one.
        weight: [K], of the positives.

    Returns:
        Rows of the candidates [V], and their weights [V], which sum to 1. Positives that share a
        candidate add up.
    """
    voters = np.flatnonzero(member >= 0)
    share = weight[voters] / weight[voters].sum()
    distinct, place = np.unique(member[voters], return_inverse=True)
    summed = np.bincount(place, weights=share, minlength=len(distinct))
    return distinct, summed.astype(np.float64)
