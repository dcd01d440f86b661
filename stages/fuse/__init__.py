"""Stage ``fuse``: from the boxes and masks of all sentences to what the target may be."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import FuseConfig
from pipeline.judgements import Ruling
from pipeline.types import Augmentation, Boxes, CandidateScores, Hypotheses, Tracks
from stages.fuse.frames import fuse_frames
from stages.fuse.tracks import fuse_tracks

__all__ = ["fuse", "fuse_frames", "fuse_tracks"]


def fuse(
    augmentation: Augmentation,
    texts: Sequence[str],
    boxes: Sequence[Boxes],
    candidates: Sequence[CandidateScores],
    tracks: Tracks,
    config: FuseConfig,
    ruling: Ruling | None = None,
) -> Hypotheses:
    """Fuses the predictions of all positives of one sample, gated by its negatives.

    Args:
        augmentation: the sample's positives and negatives; each is one of ``texts``.
        texts: the sentences of the whole video.
        boxes: T frames' boxes; their ``text`` is a row of ``texts``.
        candidates: of each of the T frames; their ``box_row`` answers ``boxes`` row for row.
        tracks: which candidates are one object; not used for ``fuse.level = "frame"``.
        config: the level, and thresholds.
        ruling: of a judge about the tracks; None leaves the choice to the votes. Not used for
            ``fuse.level = "frame"``.

    Returns:
        Per frame up to ``config.hypotheses`` instances, best first, and the frame's status.
    """
    if config.level == "frame":
        return fuse_frames(augmentation, texts, boxes, candidates, config)
    return fuse_tracks(augmentation, texts, boxes, candidates, tracks, config, ruling)
