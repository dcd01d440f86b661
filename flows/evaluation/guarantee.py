"""Predicts J of masks from a quality signal, with a lower bound that holds (split conformal).

The unit that is exchangeable is a video: labelled videos and videos without labels must be drawn
alike. Masks of one video may depend on each other in any way. For a level c, masks are kept whose
signal reaches a threshold. It is the lowest threshold at which, over K labelled videos,

    (1 + sum of each video's share of masks that are kept and have J < c) / (K + 1)

is at most 1 - confidence of the share that is kept. The 1 stands for a new video all of whose masks
are wrong. So of the masks that are kept, in expectation over videos, at most 1 - confidence have
J < c (conformal risk control of the share of wrong masks, related to the share that is kept).

Letters: n masks, K labelled videos, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""J that is promised: 0.05 to 0.95."""

FOLDS = 8
"""Parts of the labelled videos that are held out in turn."""

DRIFT_BELOW = 0.01
"""Two sets of videos are called different if chance explains them with a lower probability."""


@dataclass(frozen=True)
class Labels:
    """Masks whose J is known.

    Attributes:
        video: n texts.
        signal: float64 [n], in [0, 1], higher for masks that look better.
        j: float64 [n], in [0, 1]; 0 or 1 where people only said wrong or right.
    """

    video: Sequence[str]
    signal: Floats
    j: Floats

    def __len__(self) -> int:
        return len(self.j)

    @property
    def videos(self) -> list[str]:
        """The labelled videos, sorted."""
        return sorted(set(self.video))

    def of(self, videos: Sequence[str]) -> Labels:
        """Returns the masks of some videos."""
        wanted = set(videos)
        rows = np.array([name in wanted for name in self.video], np.bool_)
        return Labels(
            [name for name in self.video if name in wanted], self.signal[rows], self.j[rows]
        )


@dataclass(frozen=True)
class Guarantee:
    """What the labels allow to promise.

    Attributes:
        confidence: of the promise, such as 0.9.
        videos: K.
        thresholds: for each of ``LEVELS``, the least signal of a mask that is kept; infinite if
            nothing can be promised. Does not fall with the level.
        knots: float64 [2, m], signal and expected J; straight lines between them.
    """

    confidence: float
    videos: int
    thresholds: tuple[float, ...]
    knots: Floats

    def lower(self, signal: Floats) -> Floats:
        """Returns float64 [n]: the highest J that is promised of each mask; 0 for none."""
        reached = np.asarray(signal)[:, None] >= np.array(self.thresholds)
        levels: Floats = np.concatenate([[0.0], LEVELS])[reached.sum(axis=1)]
        return levels

    def predicted(self, signal: Floats) -> Floats:
        """Returns float64 [n]: the expected J of each mask."""
        expected: Floats = np.interp(signal, self.knots[0], self.knots[1])
        return expected


@dataclass(frozen=True)
class HeldOut:
    """What came of masks of labelled videos that the guarantee did not see.

    Attributes:
        kept: share of the masks that are kept.
        wrong: share of the kept masks with J below the level; NaN if none is kept.
        masks: number of masks.
    """

    kept: float
    wrong: float
    masks: int


def least_videos(confidence: float) -> int:
    """Returns the number of labelled videos below which nothing can be promised."""
    return max(1, math.ceil(1 / (1 - confidence) - 1 - 1e-9))


def fit(labels: Labels, confidence: float = 0.9) -> Guarantee:
    """Returns the guarantee that labels allow.

    Raises:
        ValueError: there is no label, or the confidence is not in (0, 1).
    """
    if not len(labels) or not 0 < confidence < 1:
        raise ValueError(f"{len(labels)} labels, confidence {confidence}")
    videos, row = np.unique(np.asarray(labels.video, object), return_inverse=True)
    count = len(videos)
    # Each video counts the same, however many masks it has.
    share = 1 / np.bincount(row)[row]
    order = np.argsort(-labels.signal, kind="stable")
    kept = np.cumsum(share[order])
    signal = labels.signal[order]
    # Masks of one signal are kept together.
    last = np.append(signal[1:] != signal[:-1], True)
    thresholds, least = [], -np.inf
    for level in LEVELS:
        wrong = np.cumsum((share * (labels.j < level))[order])
        fits = last & ((1 + wrong) / (count + 1) <= (1 - confidence) * kept / count + 1e-12)
        found = signal[np.flatnonzero(fits)[-1]] if fits.any() else np.inf
        least = max(least, float(found))
        thresholds.append(least)
    return Guarantee(confidence, count, tuple(thresholds), _expected(signal, labels.j[order]))


def held_out(
    labels: Labels, level: float, confidence: float = 0.9, folds: int = FOLDS, seed: int = 0
) -> HeldOut:
    """Returns what comes of labelled videos if the guarantee is made without them, fold by fold.

    Raises:
        ValueError: fewer than two videos are labelled.
    """
    videos = labels.videos
    if len(videos) < 2:
        raise ValueError(f"{len(videos)} labelled videos; expected two or more")
    order = np.random.default_rng(seed).permutation(len(videos))
    masks = kept = wrong = 0
    for part in np.array_split(order, min(folds, len(videos))):
        out = {videos[place] for place in part}
        made = fit(labels.of([name for name in videos if name not in out]), confidence)
        tested = labels.of(sorted(out))
        keep = made.lower(tested.signal) >= level - 1e-9
        masks += len(tested)
        kept += int(keep.sum())
        wrong += int((tested.j[keep] < level).sum())
    return HeldOut(kept / masks, wrong / kept if kept else math.nan, masks)


def drift(labelled: Labels, video: Sequence[str], signal: Floats) -> float:
    """Returns how probable it is that chance alone makes other videos differ so much from the
    labelled ones: the p-value of a two-sample Kolmogorov-Smirnov test of the videos' mean signals.

    Args:
        video: n texts, of the other masks.
        signal: float64 [n].
    """
    from scipy.stats import ks_2samp

    ours, theirs = _means(labelled.video, labelled.signal), _means(video, signal)
    if not len(ours) or not len(theirs):
        return 1.0
    return float(ks_2samp(ours, theirs).pvalue)


def _means(video: Sequence[str], signal: Floats) -> Floats:
    _, row = np.unique(np.asarray(video, object), return_inverse=True)
    means: Floats = np.bincount(row, weights=signal) / np.maximum(np.bincount(row), 1)
    return means


def _expected(signal: Floats, j: Floats) -> Floats:
    """Returns the knots of the rising function of the signal that fits J best.

    Args:
        signal, j: [n], by falling signal.
    """
    from scipy.optimize import isotonic_regression

    fitted = isotonic_regression(j[::-1], increasing=True).x
    # One knot for each signal; equal signals have one mean.
    values, place = np.unique(signal[::-1], return_inverse=True)
    mean = np.bincount(place, weights=fitted) / np.bincount(place)
    knots: Floats = np.stack([values, np.clip(mean, 0, 1)])
    return knots
