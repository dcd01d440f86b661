"""The tracks of a sample on its card: pictures, scores, and the sentences that decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.context import RunContext
from flows.exchange.seen_tracks import MOST_TRACKS, SeenTracks, seen_tracks
from flows.report.draw import jpeg_url, marked_frame
from pipeline.errors import StoreError
from pipeline.marks import colour_of
from pipeline.ports import Image
from pipeline.sampling import pick_frames
from pipeline.types import VideoRef

if TYPE_CHECKING:
    from stages.fuse.explain import Vote


MOST_FRAMES = 3
"""Frames of a card that are shown with their tracks: pictures are what makes a page large."""

MOST_OBJECTIONS = 5
"""Negatives that are listed."""


@dataclass(frozen=True)
class TrackRow:
    """A track as a sample sees it.

    Attributes:
        number: of the track.
        colour: CSS colour of its outline.
        frames: number of frames that have it.
        support: mean support by the positives.
        score: support less what the negatives claim.
        chosen: whether the sample takes it.
    """

    number: int
    colour: str
    frames: int
    support: float
    score: float
    chosen: bool


@dataclass(frozen=True)
class TracksView:
    """The tracks of a card.

    Attributes:
        frames: name of some of the card's frames, and the frame with its tracks as a ``data:`` URL.
        rows: the best tracks, best first.
        more: how many tracks are not in ``rows``.
        votes: what each sentence says, in words.
    """

    frames: list[tuple[str, str]]
    rows: list[TrackRow]
    more: int
    votes: list[str]


class VideoTracks:
    """Gives the tracks of samples, videos together; one video in memory at a time."""

    def __init__(self, context: RunContext) -> None:
        assert context.plan is not None
        self._context = context
        self._shard_of = {
            video: shard.name for shard in context.plan.layout for video in shard.videos
        }
        self._video = ""
        self._held: SeenTracks | None = None

    def of(
        self, video: VideoRef, expression: str, frames: Sequence[int], images: Sequence[Image]
    ) -> TracksView | None:
        """Returns the tracks of a sample; None if the run has none of its video.

        Args:
            frames: positions of the card's frames.
            images: of these frames.
        """
        if video.id != self._video:
            self._video, self._held = video.id, self._read(video)
        seen = self._held
        if seen is None or expression not in seen.augmentations:
            return None
        found = seen.judged(expression)
        only, width = seen.of_interest([expression]), self._context.config.report.width
        drawn = [
            (
                video.frames[frames[place]],
                jpeg_url(marked_frame(images[place], *seen.shown(frames[place], only), width)),
            )
            for place in pick_frames(len(frames), MOST_FRAMES)
        ]
        rows = [
            TrackRow(
                item.track,
                "#{:02x}{:02x}{:02x}".format(*colour_of(item.track)),
                item.frames,
                item.support,
                item.score,
                item.chosen,
            )
            for item in found.tracks[:MOST_TRACKS]
        ]
        return TracksView(drawn, rows, len(found.tracks) - len(rows), list(_words(found.votes)))

    def _read(self, video: VideoRef) -> SeenTracks | None:
        shard = self._shard_of.get(video.id)
        if shard is None:
            return None
        try:
            return seen_tracks(self._context, shard, video.id, (video.height, video.width))
        except StoreError:
            # `verify` tells of damage; the card goes without tracks.
            return None


def _words(votes: Sequence[Vote]) -> Iterator[str]:
    """Yields a line for each positive, and for the strongest negatives that object."""
    for vote in votes:
        if vote.weight:
            place = f"track {vote.best} ({vote.score:.2f})" if vote.best >= 0 else "no track"
            yield f"“{vote.text}”: {place}, {vote.weight:.0%} of the vote"
    against = sorted((vote for vote in votes if vote.objects), key=lambda vote: -vote.score)
    for vote in against[:MOST_OBJECTIONS]:
        yield f"against track {vote.best} ({vote.score:.2f}): “{vote.text}”"
    if len(against) > MOST_OBJECTIONS:
        yield f"and {len(against) - MOST_OBJECTIONS} more negatives"
