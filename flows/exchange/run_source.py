"""The masks of a run as an export reads them, with their quality rows and tracks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flows.context import RunContext
from flows.exchange.seen_tracks import SeenTracks, seen_tracks
from flows.planning.run_paths import RunPaths
from flows.planning.stages import SHARD_STAGES
from pipeline.errors import StoreError
from pipeline.types import VideoRef
from storage.exports.source import ExportSource, Quality, QualityByVideo
from storage.run.layout import known_layout
from storage.run.ledger import Ledger


class FinishedQuality(QualityByVideo):
    """The quality rows of the videos that receipts of ``rank`` stand for, from the tables that it
    wrote with their masks: the merged table is as old as the last run that came to its end.

    Args:
        paths: of the run.
    """

    def __init__(self, paths: RunPaths) -> None:
        super().__init__(None)
        self._parts = {
            video: paths.part("rank", receipt.shard)
            for receipt in Ledger(paths.folder).each("rank")
            for video in receipt.videos
        }
        self._part: Path | None = None
        self._rows = QualityByVideo(None)

    def of(self, video_id: str) -> Quality:
        """The rows of a video; empty where no receipt stands for it. One table is open at a time.

        Raises:
            StoreError: its table is missing or damaged.
        """
        part = self._parts.get(video_id)
        if part is None:
            return {}
        if part != self._part:
            if not part.is_file():
                raise StoreError(
                    f"{part}: missing; expected the quality rows of {video_id};"
                    " `pseudolabels run` writes them again"
                )
            self._part, self._rows = part, QualityByVideo(part)
        return self._rows.of(video_id)


@dataclass(frozen=True)
class RunSource(ExportSource):
    """The masks of a run, with the quality rows that were written with them.

    Attributes:
        context: of the run.
    """

    context: RunContext = field(kw_only=True)

    def quality_by_video(self) -> QualityByVideo:
        """The quality rows, video by video."""
        return FinishedQuality(self.context.paths)

    def tracks(self, video: VideoRef) -> SeenTracks | None:
        """The tracks that the run chose its masks from."""
        shard = self._shard_of.get(video.id)
        size = video.height, video.width
        return None if shard is None else seen_tracks(self.context, shard, video.id, size)

    @cached_property
    def _shard_of(self) -> dict[str, str]:
        layout = known_layout(self.context.paths.folder, SHARD_STAGES)
        return {video: shard for shard, videos in layout.items() for video in videos}
