"""What fusion by frames and fusion by tracks share.

Letters: K positives, N negatives, T frames, I instances of a frame, P hypotheses kept of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Augmentation, Boxes, CandidateScores, Hypotheses, Status

NOTHING_FOUND = "no box found"
UNCLAIMED = "no expression claims the box"
CLAIMED_BY_NEGATIVE = "a negative claims the box"
IN_DOUBT = "in doubt between present and absent"
NOT_SEEN = "the chosen object is not seen"
JUDGED_ABSENT = "the judge sees it nowhere"


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
        together=np.ones(frames, np.int32),
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


@dataclass(frozen=True)
class Instances:
    """What the sample's sentences, positives first, say of the instances of one frame.

    Attributes:
        score: float64 [K + N, I], each sentence's best score for each instance, 0 without a box.
        first: bool [K + N, I], whether a sentence's best box of the frame is of the instance.
        candidate: int [K + N, I], the sentence's candidate of the instance, -1 without one.
        box: int [I], the box that stands for each instance: its best supported.
        found: bool [K + N], whether a sentence has a box of rank 0 in the frame.
    """

    score: NDArray[np.float64]
    first: NDArray[np.bool_]
    candidate: NDArray[np.intp]
    box: NDArray[np.intp]
    found: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        boxes: Boxes,
        box_row: NDArray[np.int32],
        rows: NDArray[np.intp],
        sentence: NDArray[np.intp],
        instance: NDArray[np.intp],
        shape: tuple[int, int],
        box: NDArray[np.intp],
    ) -> Instances:
        """Collects pairs of a box and a sentence that it answers.

        Args:
            rows, sentence, instance: int [n], of each pair. The pairs of a sentence are in the
                order of its scores, best first.
            shape: (K + N, I).
            box: as above.
        """
        score, first = np.zeros(shape), np.zeros(shape, np.bool_)
        candidate = np.full(shape, -1, np.intp)
        best = boxes.rank[rows] == 0
        first[sentence[best], instance[best]] = True
        # The first pair of each (sentence, instance) counts.
        _, at = np.unique(sentence * max(1, shape[1]) + instance, return_index=True)
        score[sentence[at], instance[at]] = boxes.score[rows[at]]
        candidate[sentence[at], instance[at]] = box_row[rows[at]]
        return cls(score, first, candidate, box, np.asarray(first.any(axis=1)))

    def only(self, kept: NDArray[np.bool_]) -> Instances:
        """Returns some of the instances, bool [I]. What the sentences found stays as it is."""
        return Instances(
            self.score[:, kept],
            self.first[:, kept],
            self.candidate[:, kept],
            self.box[kept],
            self.found,
        )

    def margin(
        self, weight: NDArray[np.float64], objecting: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the positives' support of each instance, and how far it is above the strongest
        claim of the objecting negatives, bool [N]: two float64 [I]."""
        positives = len(weight)
        support = weight @ self.score[:positives]
        claims = (self.score * self.first)[positives:][objecting]
        return support, support - claims.max(axis=0, initial=0.0)


def fill(
    found: Hypotheses,
    index: int,
    instances: Instances,
    order: NDArray[np.intp],
    score: NDArray[np.float64],
    margin: NDArray[np.float64],
    boxes: Boxes,
    candidates: CandidateScores,
    weight: NDArray[np.float64],
) -> None:
    """Fills one frame of ``found``.

    Args:
        order: instances to keep, best first.
        score, margin: float64 [I].
        weight: float64 [K], of the positives.
    """
    positives = len(weight)
    agreement = weight @ instances.first[:positives]
    found.count[index] = len(order)
    for place, row in enumerate(order):
        member, share = shares(instances.candidate[:positives, row], weight)
        found.candidate[index, place, : len(member)] = member
        found.share[index, place, : len(member)] = share
        found.predicted_iou[index, place] = share @ candidates.predicted_iou[member]
        found.stability[index, place] = share @ candidates.stability[member]
        found.box[index, place] = boxes.xyxy[instances.box[row]]
        found.score[index, place] = score[row]
        found.box_score[index, place] = instances.score[0, row]
        found.agreement[index, place] = agreement[row]
        found.negative_margin[index, place] = margin[row]


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
