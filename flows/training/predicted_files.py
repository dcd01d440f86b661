"""Where the windows of a student's prediction go: masks as for a server, or Ref-DAVIS17's sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.davis import ANNOTATION_SETS, labels_of_scores, rows_of_set
from pipeline.types import Expression, VideoRef
from storage.exports.davis_sets import DavisSets
from storage.exports.streamed import MaskSink

if TYPE_CHECKING:
    from stages.student.predict import Window

Take = Callable[["Window"], None]
"""Takes a window of a video."""


class PredictedFiles(Protocol):
    """Takes videos, one after the other, window by window.

    Attributes:
        needs_scores: whether windows must have scores.
    """

    needs_scores: bool

    def has(self, video_id: str) -> bool:
        """Whether a video is there already, whole."""
        ...

    def video(
        self, video: VideoRef, expressions: Sequence[Expression]
    ) -> AbstractContextManager[Take]:
        """Takes the windows of a video; it counts when the block ends without an error."""
        ...


class AsMasks:
    """A mask for each expression and frame, as the servers take them.

    Args:
        sink: what writes them.
        scores: whether their scores are written too.
    """

    def __init__(self, sink: MaskSink, scores: bool) -> None:
        self._sink, self.needs_scores = sink, scores

    def has(self, video_id: str) -> bool:
        return self._sink.has(video_id)

    @contextmanager
    def video(self, video: VideoRef, expressions: Sequence[Expression]) -> Iterator[Take]:
        with self._sink.video(video.id) as add:

            def take(part: Window) -> None:
                for row, item in enumerate(expressions):
                    for place, frame in enumerate(part.frames):
                        scores = None if part.scores is None else part.scores[row, place]
                        name = item.key.expression
                        add(name, video.frames[frame], part.masks[row, place], scores)

            yield take


class AsDavisSets:
    """An index mask for each annotation set of Ref-DAVIS17 and frame: objects merged by scores.

    Args:
        folder: holds the folders of the sets.
    """

    needs_scores = True

    def __init__(self, folder: Path) -> None:
        self._sets = DavisSets(folder, ANNOTATION_SETS)

    def has(self, video_id: str) -> bool:
        return self._sets.has(video_id)

    @contextmanager
    def video(self, video: VideoRef, expressions: Sequence[Expression]) -> Iterator[Take]:
        from stages.student.predict import MOST

        names = [item.key.expression for item in expressions]
        sets = [rows_of_set(names, number) for number in range(ANNOTATION_SETS)]
        nothing = np.zeros((video.height, video.width), np.uint16)
        with self._sets.video(video.id) as add:

            def take(part: Window) -> None:
                assert part.scores is not None, "sets are merged by scores"
                for place, frame in enumerate(part.frames):
                    shown = part.scores[:, place]
                    for number, rows in enumerate(sets):
                        labels = nothing.astype(np.uint8)
                        if any(row is not None for row in rows):
                            kept = [nothing if row is None else shown[row] for row in rows]
                            labels = labels_of_scores(np.stack(kept)[:, None] / MOST)[0]
                        add(number, video.frames[frame], labels)

            yield take
