"""The tracks of a video as a run's sentences judge them, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.context import RunContext
from flows.planning.mirrored import fetch_products
from flows.planning.stages import shard_stages_of
from pipeline.judgements import Ruling
from pipeline.types import Augmentation, Boxes, CandidateScores, Tracks
from storage.arrays.candidates import StoredCandidates
from storage.tables import read_augmentations, read_ground
from storage.track_table import read_tracks

if TYPE_CHECKING:
    from stages.fuse.explain import Explanation

MOST_TRACKS = 5
"""Tracks of a sentence that are shown, best first."""


@dataclass(frozen=True)
class SeenTracks:
    """The tracks of a video, and what its sentences make of them.

    Attributes:
        size: (H, W) of the frames.
        rulings: expression -> what the judge decided, where it was asked.
    """

    context: RunContext
    size: tuple[int, int]
    augmentations: dict[str, Augmentation]
    texts: Sequence[str]
    boxes: Sequence[Boxes]
    candidates: StoredCandidates
    scores: Sequence[CandidateScores]
    tracks: Tracks
    rulings: dict[str, Ruling | None] = field(default_factory=dict)
    _judged: dict[str, Explanation] = field(default_factory=dict)

    def judged(self, expression: str) -> Explanation:
        """Returns how the sentences of a sample judge the tracks, and its first frame."""
        from stages.fuse.explain import explain_tracks

        if expression not in self._judged:
            self._judged[expression] = explain_tracks(
                self.augmentations[expression],
                self.texts,
                self.boxes,
                self.scores,
                self.tracks,
                self.context.judging.fuse,
                0,
                self.rulings.get(expression),
            )
        return self._judged[expression]

    def chosen(self, expression: str) -> list[int]:
        """Returns the tracks that a sample takes, best first."""
        return [item.track for item in self.judged(expression).tracks if item.chosen]

    def words(self, expression: str) -> str:
        """Returns the chosen tracks of a sample with their scores, and the next one."""
        found = self.judged(expression).tracks
        if not found:
            return "no track"
        taken = [item for item in found if item.chosen]
        rest = [item for item in found if not item.chosen][:1]
        told = ", ".join(f"{item.track} ({item.score:.2f})" for item in taken)
        follows = "".join(f"; next {item.track} ({item.score:.2f})" for item in rest)
        return (f"track {told}" if taken else "no track, says the judge") + follows

    def of_interest(self, expressions: Sequence[str]) -> set[int]:
        """Returns the tracks to show for some samples: the best of each."""
        return {
            item.track
            for expression in expressions
            for item in self.judged(expression).tracks[:MOST_TRACKS]
        }

    def shown(self, frame: int, only: set[int]) -> tuple[list[int], NDArray[np.bool_]]:
        """Returns the numbers of those tracks that are in a frame, and their masks [n, H, W]."""
        from stages.track_masks import tracks_in

        of = self.tracks.of_candidate[frame]
        return tracks_in(self.candidates[frame], of, self.size, only)


def seen_tracks(
    context: RunContext, shard: str, video: str, size: tuple[int, int]
) -> SeenTracks | None:
    """Returns the tracks of a video; None if the run has none, or has released its candidates.

    Raises:
        StoreError: a product of the run is damaged.
        ObjectStoreError: the run's store refuses or cannot be reached.
    """
    paths = context.paths
    fetch_products(paths.folder, shard_stages_of(context.config), [shard])
    table, candidates = paths.part("track", shard), paths.candidates(shard)
    if context.config.fuse.level != "track" or not (table.exists() and candidates.exists()):
        return None
    texts, boxes = read_ground(paths.boxes(shard), video)
    stored = StoredCandidates(candidates, video)
    mine = read_augmentations(paths.part("augment", shard)).get(video, [])
    return SeenTracks(
        context,
        size,
        {item.key.expression: item for item in mine},
        texts,
        boxes,
        stored,
        stored.scores,
        read_tracks(table, video),
        {
            expression: item.ruling
            for (name, expression), item in context.judgements(shard).items()
            if name == video
        },
    )
