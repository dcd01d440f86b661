"""The masks and figures of a sample's tracks, from what the run has stored.

Letters: T frames, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import RankConfig
from pipeline.drawn import Drawn
from pipeline.geometry import pairwise_mask_iou
from pipeline.tracks import hypothesis_of
from pipeline.types import Candidates, FrameQuality, Hypotheses, Tracks
from stages.common.mask_resolution import mask_above
from stages.rank import fused_logits
from stages.temporal_path import best_candidate, continued

FITS = 0.5
"""A drawn mask is of the track whose candidate overlaps it with this IoU or more."""


def tracks_in(
    candidates: Candidates,
    of: NDArray[np.int32],
    size: tuple[int, int],
    only: Collection[int] | None = None,
) -> tuple[list[int], NDArray[np.bool_]]:
    """Returns the tracks that are in a frame, and the mask of the best candidate of each.

    Args:
        candidates: of the frame.
        of: int32 [Q], track of each candidate; -1 without one.
        size: (H, W) of the frame.
        only: tracks to look for; None for all.

    Returns:
        Numbers of n tracks, ascending; masks [n, H, W].
    """
    numbers, masks = [], []
    for track in np.unique(of[of >= 0]).tolist():
        row = best_candidate(candidates, np.flatnonzero(of == track))
        if row is not None and (only is None or track in only):
            logits = torch.from_numpy(candidates.logits[row]).float()
            masks.append(mask_above(logits, *size, 0.0).numpy())
            numbers.append(track)
    return numbers, np.stack(masks) if masks else np.zeros((0, *size), np.bool_)


@dataclass
class TrackMasks:
    """The tracks of a video, as one sample sees them.

    Attributes:
        size: (H, W) of the frames.
        config: of ``rank``.
    """

    hypotheses: Hypotheses
    candidates: Sequence[Candidates]
    tracks: Tracks
    size: tuple[int, int]
    config: RankConfig
    _paths: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    _under: dict[Drawn, int | None] = field(default_factory=dict)

    def mask(self, frame: int, track: int) -> tuple[NDArray[np.bool_] | None, bool]:
        """Returns the mask [H, W] of a track in a frame, and whether the track is carried on there.

        If a hypothesis of the sample is of the track, the mask is the hypothesis's. Else it is that
        of the track's best candidate. Where the track breaks off, it is that of the candidate that
        continues it; None without one.
        """
        row = hypothesis_of(self.hypotheses, self.tracks, frame, track)
        if row is not None:
            return self._enlarged(fused_logits(self.hypotheses, self.candidates, frame, row)), False
        best = self._best(frame, track)
        goes_on = best is None
        if goes_on:
            if track not in self._paths:
                self._paths[track] = continued(self.candidates, self.tracks, track)
            best = int(self._paths[track][frame])
            if best < 0:
                return None, False
        logits = torch.from_numpy(self.candidates[frame].logits[best]).float()
        return self._enlarged(logits), goes_on

    def track_under(self, drawn: Drawn) -> int | None:
        """Returns the track whose candidate fits a drawn mask best; None if none fits."""
        if drawn not in self._under:
            self._under[drawn] = self._track_under(drawn)
        return self._under[drawn]

    def _track_under(self, drawn: Drawn) -> int | None:
        of = self.tracks.of_candidate[drawn.frame]
        rows = np.flatnonzero(of >= 0)
        if not len(rows):
            return None
        logits = self.candidates[drawn.frame].logits[rows]
        masks = np.stack([self._enlarged(torch.from_numpy(item).float()) for item in logits])
        overlap = pairwise_mask_iou(masks, drawn.mask[None])[:, 0]
        best = int(overlap.argmax())
        return int(of[rows[best]]) if overlap[best] >= FITS else None

    def measured(self, row: FrameQuality, track: int) -> FrameQuality:
        """Returns the figures of a track in the frame of a row; NaN for what nobody measured."""
        nothing = math.nan
        found = hypothesis_of(self.hypotheses, self.tracks, row.frame, track)
        if track < 0 or found is None:
            best = None if track < 0 else self._best(row.frame, track)
            scores = self.candidates[row.frame]
            return replace(
                row,
                box_score=nothing,
                predicted_iou=nothing if best is None else float(scores.predicted_iou[best]),
                stability=nothing if best is None else float(scores.stability[best]),
                agreement=nothing,
                temporal_iou=nothing,
                negative_margin=nothing,
            )
        at = row.frame, found
        return replace(
            row,
            box_score=float(self.hypotheses.box_score[at]),
            predicted_iou=float(self.hypotheses.predicted_iou[at]),
            stability=float(self.hypotheses.stability[at]),
            agreement=float(self.hypotheses.agreement[at]),
            temporal_iou=nothing,
            negative_margin=float(self.hypotheses.negative_margin[at]),
        )

    def _best(self, frame: int, track: int) -> int | None:
        mine = np.flatnonzero(self.tracks.of_candidate[frame] == track)
        return best_candidate(self.candidates[frame], mine) if len(mine) else None

    def _enlarged(self, logits: torch.Tensor) -> NDArray[np.bool_]:
        cut = math.log(self.config.threshold / (1 - self.config.threshold))
        mask: NDArray[np.bool_] = mask_above(logits, *self.size, cut).numpy()
        return mask
