"""A sample that is looked at: its masks with all decisions so far, and what they were made from.

Masks are read from the run where it has done what people decided, and made anew where it has not.
Letters: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.finished_results import FinishedMasks
from flows.planning.released import check_there
from pipeline.config import RankConfig
from pipeline.decisions import Sample, Verdict, digest_of_tracks
from pipeline.fingerprint import digest
from pipeline.judgements import trust_of
from pipeline.packed_masks import pack_mask
from pipeline.tracks import order_of_tracks
from pipeline.types import Expression, FrameQuality, Hypotheses, Tracks, VideoRef
from storage.arrays.candidates import StoredCandidates
from storage.arrays.hypotheses import StoredHypotheses
from storage.tables import iter_quality
from storage.track_table import read_tracks

if TYPE_CHECKING:
    from stages.track_masks import TrackMasks

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Opened:
    """A sample, and what it was made from.

    Attributes:
        order: tracks, the likeliest first.
        mask: returns the mask [H, W] of a frame.
        rows: the quality of each of the T frames.
        rules: of ``rank``.
    """

    video: VideoRef
    expression: Expression
    hypotheses: Hypotheses
    candidates: StoredCandidates
    tracks: Tracks
    order: list[int]
    mask: Callable[[int], Mask]
    rows: list[FrameQuality]
    rules: RankConfig

    @cached_property
    def track_masks(self) -> TrackMasks:
        """The masks of the video's tracks. The first use imports PyTorch."""
        from stages.track_masks import TrackMasks

        size = self.video.height, self.video.width
        return TrackMasks(self.hypotheses, self.candidates, self.tracks, size, self.rules)

    def digest(self) -> str:
        """Returns a digest of the masks as they are shown."""
        masks = (self.mask(frame) for frame in range(len(self.video)))
        packed = [pack_mask(mask).hex() if mask.any() else "" for mask in masks]
        return digest([[row.status for row in self.rows], packed])


def open_sample(
    context: RunContext, shard: str, sample: Sample, verdict: Verdict, is_applied: bool
) -> Opened:
    """Opens a sample.

    Args:
        shard: of the sample.
        verdict: about it.
        is_applied: whether the run's masks were made with this verdict.

    Raises:
        PseudoLabelError: a file of the run or of the data set cannot be read.
    """
    paths, reader = context.paths, context.reader()
    video = reader.video(sample[0])
    expressions = {item.key.expression: item for item in reader.expressions(sample[0])}
    check_there(paths, [shard], "a review")
    stored = StoredHypotheses(context.hypotheses(shard), sample[0])
    hypotheses = next(item for item in stored if item.key.expression == sample[1])
    candidates = StoredCandidates(paths.candidates(shard), sample[0])
    tracks = read_tracks(paths.part("track", shard), sample[0])
    if is_applied:
        mask, rows = _stored(context, shard, sample)
    else:
        trust = trust_of(context.judgements(shard), hypotheses.key)
        mask, rows = _made(context, video, verdict, hypotheses, candidates, tracks, trust)
    order = order_of_tracks(hypotheses, tracks)
    expression = expressions[sample[1]]
    rules = context.config.rank
    return Opened(video, expression, hypotheses, candidates, tracks, order, mask, rows, rules)


def _stored(
    context: RunContext, shard: str, sample: Sample
) -> tuple[Callable[[int], Mask], list[FrameQuality]]:
    store = FinishedMasks(context.paths)
    rows = [
        row
        for row in iter_quality(context.paths.part("rank", shard))
        if (row.video, row.expression) == sample
    ]
    return lambda frame: store.read(*sample, frames=[frame])[0][0], rows


def _made(
    context: RunContext,
    video: VideoRef,
    verdict: Verdict,
    hypotheses: Hypotheses,
    candidates: StoredCandidates,
    tracks: Tracks,
    trust: float,
) -> tuple[Callable[[int], Mask], list[FrameQuality]]:
    """Does what the next run would do."""
    parts, config = context.parts, context.config
    found, rows = parts.rank(hypotheses, candidates, video, config, "", context.calibration, trust)
    fitting = verdict.fitting(digest_of_tracks(tracks), (video.height, video.width))
    found, rows = parts.decide(fitting, found, rows, hypotheses, candidates, tracks, config)
    return found.mask.__getitem__, rows
