"""Fuses what several methods predicted for a video: tracks by agreement, pixels by vote.

A method gives index masks with any number of tracks, or one mask per sample. The ground truth is
never used. A track is chosen if other methods have it too, if it overlaps masks that were grounded
in the sentence, and if it is steady over time. Letters: T frames, H W pixels, M methods.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry import mask_iou, mean_of_neighbours
from pipeline.packed_masks import PackedMasks
from pipeline.types import FrameQuality, PseudoMask, SampleKey, Status

VERSION = 1

MATCH_IOU = 0.3
"""Two tracks with at least this mean IoU are of one object."""

VOTE_IOU = 0.2
"""A mask whose IoU with the favourite of its frame is smaller has no vote: it is something else."""

MAJORITY = 0.6
"""Share of the confidence that a pixel needs. Two methods must agree unless one is clearly more
confident."""

_ALONE = 0.1
"""Weight of a track that no other method has."""

Ids = NDArray[np.uint8]


_Pairs = dict[tuple[int, int], float]
"""Track of one method and track of another -> mean IoU."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """The prediction of one method for a video.

    What is computed from it, alone or with another method's, is cached: the methods of a video are
    often the same for all its sentences.

    Attributes:
        name: of the method.
        ids: [T, H, W], 0 for no object, else the id of a track.
        there: [T], whether the method predicted the frame; if not, its ids are 0.
        grounded: whether track 1 was made for the sample's sentence.
        trust: [T] in [0, 1], the method's own confidence in each frame.
    """

    name: str
    ids: Ids
    there: NDArray[np.bool_]
    grounded: bool
    trust: NDArray[np.float32]

    @cached_property
    def labels(self) -> tuple[int, ...]:
        """The ids of all tracks, in order."""
        return tuple(int(track) for track in np.unique(self.ids) if track)

    @cached_property
    def digest(self) -> str:
        """Of what the method predicted, for fingerprints."""
        said = hashlib.sha256(np.ascontiguousarray(self.ids).data)
        said.update(np.ascontiguousarray(self.there).data)
        return said.hexdigest()

    @cached_property
    def _steadiness(self) -> dict[int, NDArray[np.float64]]:
        return {}

    @cached_property
    def _pairs(self) -> WeakKeyDictionary[Tracks, _Pairs]:
        return WeakKeyDictionary()

    def steadiness(self, track: int) -> NDArray[np.float64]:
        """[T] in [0, 1]: how a track's mask holds together over time; 0 where it is empty."""
        if track not in self._steadiness:
            self._steadiness[track] = _steadiness(self.ids == track)
        return self._steadiness[track]

    def pairs(self, other: Tracks) -> _Pairs:
        """The mean IoU of every track with every track of another method that it ever meets."""
        if other not in self._pairs:
            known = other._pairs.get(self)
            if known is None:
                self._pairs[other] = _pairs(self, other)
            else:
                self._pairs[other] = {(a, b): iou for (b, a), iou in known.items()}
        return self._pairs[other]


@dataclass(frozen=True)
class Consensus:
    """The fused masks of a sample.

    Attributes:
        chosen: for each method the id of the track that joined; None where none did.
        reason: why there is nothing at all; empty where there is.
    """

    mask: PseudoMask
    quality: tuple[FrameQuality, ...]
    chosen: tuple[int | None, ...]
    reason: str


def consensus(
    key: SampleKey,
    frame_names: Sequence[str],
    methods: Sequence[Tracks],
    fingerprint: str,
    only_target: bool,
) -> Consensus:
    """Fuses the methods' masks of one sample.

    Args:
        key: the sample.
        frame_names: T names.
        methods: M methods of one shape. A method without any mask is ignored.
        fingerprint: digest of everything that the masks depend on.
        only_target: whether every sentence of the video is of one target. If not, a track can be
            chosen only by masks that are grounded in the sentence.

    Returns:
        The fused masks. A frame is present if any pixel wins the vote; absent if at least two
        methods predict nothing and none predicts a mask; else unknown. The weight is agreement
        times temporal IoU.
    """
    shape = methods[0].ids.shape
    chosen: tuple[int | None, ...] = (None,) * len(methods)
    reason = ""
    if only_target or any(method.grounded for method in methods):
        chosen = choose_tracks(methods, only_target)
        if all(track is None for track in chosen):
            reason = "no method has a mask"
    else:
        reason = "several targets and no grounded mask to choose a track by"
    mask = np.zeros(shape, np.bool_)
    weight, agreement = np.zeros(shape[0], np.float32), np.zeros(shape[0], np.float64)
    status = np.full(shape[0], Status.UNKNOWN, np.uint8)
    joined = [(m, track) for m, track in zip(methods, chosen, strict=True) if track is not None]
    steadiness = [method.steadiness(track) for method, track in joined]
    for frame in range(shape[0] if joined else 0):
        votes = [
            (method.ids[frame] == track, float(steady[frame] * method.trust[frame]))
            for (method, track), steady in zip(joined, steadiness, strict=True)
            if method.there[frame]
        ]
        shown = [(one, confidence) for one, confidence in votes if one.any()]
        if shown:
            mask[frame], agreement[frame] = vote(shown)
        if mask[frame].any():
            status[frame] = Status.PRESENT
            # One mask alone was agreed to by nobody: half its weight.
            agreement[frame] *= len(shown) / max(len(votes), 2)
        elif not shown and len(votes) > 1:
            status[frame], weight[frame] = Status.ABSENT, 1 / 2
    temporal = _neighbour_iou(mask, status == Status.PRESENT)
    present = status == Status.PRESENT
    steady = np.where(np.isnan(temporal), 1.0, temporal)
    weight[present] = np.clip(agreement * steady, 0, 1)[present]
    rows = _quality(key, frame_names, reason, agreement, temporal, weight, status)
    packed = PackedMasks.of(mask)
    return Consensus(PseudoMask(key, packed, weight, status, fingerprint), rows, chosen, reason)


def choose_tracks(methods: Sequence[Tracks], only_target: bool) -> tuple[int | None, ...]:
    """Returns each method's track of the target; None if it has none.

    The reference is the grounded track that the other methods have most, or else any track that
    they have and that holds together. Every method joins with its track that meets the reference
    most, from :data:`MATCH_IOU` on.

    Args:
        only_target: whether tracks can answer the sentence without grounding. Then a grounded one
            that no method shares gives way to tracks that several share.
    """
    grounded = _most_supported(methods, grounded=True)
    anything = _most_supported(methods, grounded=False) if only_target else None
    found = grounded
    if anything is not None and (grounded is None or grounded[2] < MATCH_IOU <= anything[2]):
        found = anything
    if found is None:
        return (None,) * len(methods)
    reference = found[:2]
    result: list[int | None] = []
    for m, method in enumerate(methods):
        if m == reference[0]:
            result.append(reference[1])
            continue
        overlaps = track_overlaps(methods[reference[0]], method).get(reference[1], {})
        if method.grounded:
            overlaps = {track: iou for track, iou in overlaps.items() if track == 1}
        best = max(overlaps, key=lambda track: overlaps[track], default=None)
        matches = best is not None and overlaps[best] >= MATCH_IOU
        result.append(best if matches else None)
    return tuple(result)


def track_overlaps(first: Tracks, second: Tracks) -> dict[int, dict[int, float]]:
    """Track of the first -> track of the second -> mean IoU.

    Over the frames of which both methods say something and in which either track shows; pairs that
    never meet are left out.
    """
    result: dict[int, dict[int, float]] = {}
    for (a, b), iou in first.pairs(second).items():
        result.setdefault(a, {})[b] = iou
    return result


def _pairs(first: Tracks, second: Tracks) -> _Pairs:
    shared: dict[tuple[int, int], float] = {}
    shown_first: dict[int, set[int]] = {}
    shown_second: dict[int, set[int]] = {}
    for frame in np.flatnonzero(first.there & second.there).tolist():
        pairs = first.ids[frame].astype(np.int32) * 256 + second.ids[frame]
        counts = np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)
        area_first, area_second = counts.sum(axis=1), counts.sum(axis=0)
        for track in np.flatnonzero(area_first[1:]) + 1:
            shown_first.setdefault(int(track), set()).add(frame)
        for track in np.flatnonzero(area_second[1:]) + 1:
            shown_second.setdefault(int(track), set()).add(frame)
        for a, b in np.argwhere(counts[1:, 1:]) + 1:
            union = area_first[a] + area_second[b] - counts[a, b]
            pair = (int(a), int(b))
            shared[pair] = shared.get(pair, 0.0) + float(counts[a, b] / union)
    return {
        (a, b): total / len(shown_first[a] | shown_second[b]) for (a, b), total in shared.items()
    }


def vote(shown: Sequence[tuple[NDArray[np.bool_], float]]) -> tuple[NDArray[np.bool_], float]:
    """The mask [H, W] that masks with confidences elect, and how far they agree, in [0, 1].

    The favourite is the mask that the others' confidence meets most; one that hardly meets it does
    not vote. A pixel needs :data:`MAJORITY` of the confidence.

    Args:
        shown: masks that are not empty, each with its confidence.
    """
    masks = np.stack([mask for mask, _ in shown])
    # A method that trusts itself nowhere still breaks ties.
    trust = np.array([max(confidence, 1e-3) for _, confidence in shown])
    if len(masks) == 1:
        only: NDArray[np.bool_] = masks[0]
        return only, 1.0
    ious = np.array([mask_iou(masks, np.broadcast_to(mask, masks.shape)) for mask in masks])
    favourite = int(np.argmax(ious @ trust))
    voters = ious[favourite] >= VOTE_IOU
    share = np.tensordot(trust[voters], masks[voters].astype(np.float64), axes=1)
    elected: NDArray[np.bool_] = share >= MAJORITY * trust[voters].sum()
    others = np.arange(len(masks)) != favourite
    agreement = float(ious[favourite][others] @ trust[others] / trust[others].sum())
    return elected, agreement


def _most_supported(methods: Sequence[Tracks], grounded: bool) -> tuple[int, int, float] | None:
    """(method, track, support) of the track that others have too, shown long and steadily.

    Support is the mean over the other methods of the IoU with their best track.
    """
    best: tuple[int, int, float] | None = None
    highest = 0.0
    for m, method in enumerate(methods):
        if grounded and not method.grounded:
            continue
        support = dict.fromkeys(method.labels, 0.0)
        others = [other for o, other in enumerate(methods) if o != m]
        for other in others:
            for track, overlaps in track_overlaps(method, other).items():
                support[track] += max(overlaps.values()) / len(others)
        for track, supported in sorted(support.items()):
            if supported < highest - _ALONE:
                continue
            # A track that nobody shares still beats none.
            steady = float((method.steadiness(track) * np.maximum(method.trust, 0.1)).mean())
            score = (supported + _ALONE) * max(steady, 1e-6)
            if score > highest:
                best, highest = (m, track, supported), score
    return best


def _steadiness(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the masks [T, H, W] of a track: mean IoU with the masks before and after, times its size
    against the track's median size, the smaller over the larger: a mask that floods the frame for a
    while is like its neighbours.
    """
    area = np.count_nonzero(masks, axis=(1, 2)).astype(np.float64)
    shown = area > 0
    if not shown.any():
        return np.zeros(len(masks))
    usual = float(np.median(area[shown]))
    size = np.minimum(area, usual) / np.maximum(area, usual)
    return np.where(shown, np.nan_to_num(_neighbour_iou(masks, shown), nan=0.5) * size, 0.0)


def _neighbour_iou(masks: NDArray[np.bool_], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[T]: mean IoU with the frames before and after that show a mask; NaN where none does."""
    steps = [
        float(mask_iou(*pair)) if both else math.nan
        for pair, both in zip(pairwise(masks), shown[:-1] & shown[1:], strict=True)
    ]
    return mean_of_neighbours(np.array(steps))


def _quality(
    key: SampleKey,
    frame_names: Sequence[str],
    reason: str,
    agreement: NDArray[np.float64],
    temporal: NDArray[np.float64],
    weight: NDArray[np.float32],
    status: NDArray[np.uint8],
) -> tuple[FrameQuality, ...]:
    """The rows of the quality table; what only the models of a run measure is NaN."""
    words = {
        Status.PRESENT: "",
        Status.ABSENT: "no method has a mask",
        Status.UNKNOWN: reason or "the methods do not agree",
    }
    return tuple(
        FrameQuality(
            video=key.video,
            expression=key.expression,
            frame=frame,
            frame_name=name,
            box_score=math.nan,
            predicted_iou=math.nan,
            stability=math.nan,
            agreement=float(agreement[frame]),
            temporal_iou=float(temporal[frame]),
            negative_margin=math.nan,
            weight=float(weight[frame]),
            status=int(status[frame]),
            reason=words[Status(int(status[frame]))],
        )
        for frame, name in enumerate(frame_names)
    )
