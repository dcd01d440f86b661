"""Decodes frames ahead of the work on a shard, and writes its results behind it.

Frames are decoded in threads (image decoders release the interpreter's lock), across the ends of
videos: while the last batch of one video is processed, the first of the next is decoded. Results
are written in one thread, in order. Both are bounded: at most ``ahead`` batches are decoded beside
the current one, and at most ``behind`` results wait to be written. Results do not depend on these
numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from flows.context import RunContext
from flows.planning.receipts import Outcome
from flows.planning.shards import Shard
from flows.timing import FRAMES, WRITES, Meter
from pipeline.ports import DatasetReader, Image
from pipeline.types import FrameIndex, VideoRef

Key = TypeVar("Key")


@dataclass(frozen=True)
class _Coming:
    """A batch of one video. ``decoded`` has one future per frame; None without threads."""

    video: VideoRef
    indices: Sequence[FrameIndex]
    decoded: Sequence[Future[Image]] | None


class FrameFeed:
    """Yields the frames of a shard's videos in batches of one video, decoded ahead.

    Args:
        reader: of the data set. If it is ``in_order``, there is one worker.
        videos: ids in the order in which they will be requested; some may be left out.
        pick: returns the frames of a video that are wanted; may be empty.
        size: number of frames of a batch; the last batch of a video may have fewer.
        workers: number of threads; 0 decodes a batch when it is requested.
        ahead: number of batches decoded beside the current one.
        meter: told how long the caller waits.
    """

    def __init__(
        self,
        reader: DatasetReader,
        videos: Sequence[str],
        pick: Callable[[VideoRef], Sequence[FrameIndex]],
        size: int,
        workers: int,
        ahead: int,
        meter: Meter,
    ) -> None:
        self._reader, self._pick, self._size, self._meter = reader, pick, size, meter
        self._ahead = ahead
        workers = min(workers, 1) if reader.in_order else workers
        self._pool = ThreadPoolExecutor(workers, "decoding") if workers else None
        self._queue: deque[_Coming] = deque()
        self._known: dict[str, VideoRef] = {}
        self._place = {video: place for place, video in enumerate(videos)}
        self._reached = 0  # Frames of videos before this place are of no use any more.
        self._to_come = self._batches_to_come()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def video(self, video_id: str) -> VideoRef:
        """Returns the video; looks it up once. Raises InputError as the reader does."""
        if self._pool is not None:
            self._fill(self._ahead)
        found = self._known.pop(video_id, None)
        return self._reader.video(video_id) if found is None else found

    def batches(self, video: VideoRef) -> Iterator[list[Image]]:
        """Yields the wanted frames of a video, in order.

        If the caller stops early, the rest of the video's frames is dropped.

        Raises:
            InputError: of the first broken frame.
        """
        place = self._place[video.id]
        self._reached = place
        try:
            for indices in self._parts(video):
                coming = self._next_of(video) or _Coming(video, indices, None)
                with self._meter.measure(FRAMES):
                    images = self._images(coming)
                del coming  # The futures hold the frames as well.
                yield images
                del images
        finally:
            self._reached = place + 1

    def _parts(self, video: VideoRef) -> Iterator[Sequence[FrameIndex]]:
        wanted = self._pick(video)
        for start in range(0, len(wanted), self._size):
            yield wanted[start : start + self._size]

    def _next_of(self, video: VideoRef) -> _Coming | None:
        """Returns the next batch if it is of this video; None if its frames were not requested."""
        if self._pool is None:
            return None
        self._fill(1)
        while self._queue and self._place[self._queue[0].video.id] < self._reached:
            for future in self._queue.popleft().decoded or ():
                future.cancel()
            self._fill(1)
        if not self._queue or self._queue[0].video.id != video.id:
            return None
        coming = self._queue.popleft()
        self._fill(self._ahead)
        return coming

    def _images(self, coming: _Coming) -> list[Image]:
        if coming.decoded is None:
            return [self._reader.frame(coming.video, index) for index in coming.indices]
        return [future.result() for future in coming.decoded]

    def _fill(self, count: int) -> None:
        """Requests batches until ``count`` are requested, or all."""
        assert self._pool is not None
        while len(self._queue) < count:
            found = next(self._to_come, None)
            if found is None:
                return
            video, indices = found
            decoded = [self._pool.submit(self._reader.frame, video, index) for index in indices]
            self._queue.append(_Coming(video, indices, decoded))

    def _batches_to_come(self) -> Iterator[tuple[VideoRef, Sequence[FrameIndex]]]:
        for video_id, place in self._place.items():
            if place < self._reached:
                continue
            try:
                video = self._reader.video(video_id)
            except Exception:  # noqa: BLE001 - raised when its turn comes and it is asked for
                continue
            self._known[video_id] = video
            for indices in self._parts(video):
                if place < self._reached:
                    break
                yield video, indices


class WriteBehind(Generic[Key]):
    """Does writes in one thread, in the order they are handed over.

    Leaving the block waits for all writes. After an error in the block, writes that have not begun
    are dropped.

    Args:
        behind: maximum number of waiting writes; 0 writes at once, in the caller's thread.
        ended: called after each write, in the caller's thread, with its key and None or its error.
        meter: told how long the caller waits.
    """

    def __init__(
        self, behind: int, ended: Callable[[Key, Exception | None], None], meter: Meter
    ) -> None:
        self._behind, self._ended, self._meter = behind, ended, meter
        self._pool = ThreadPoolExecutor(1, "writing") if behind else None
        self._queue: deque[tuple[Key, Future[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._queue:
                self._collect()
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def put(self, key: Key, write: Callable[[], None]) -> None:
        """Adds a write. Waits until fewer than ``behind`` are waiting."""
        if self._pool is None:
            self._queue.append((key, self._now(write)))
            self._collect()
            return
        while len(self._queue) >= self._behind or (self._queue and self._queue[0][1].done()):
            self._collect()
        self._queue.append((key, self._pool.submit(write)))

    def _now(self, write: Callable[[], None]) -> Future[None]:
        done: Future[None] = Future()
        with self._meter.measure(WRITES):
            try:
                write()
            except Exception as error:  # noqa: BLE001  as a pool does; it is handed to `ended`
                done.set_exception(error)
            else:
                done.set_result(None)
        return done

    def _collect(self) -> None:
        """Waits for the oldest write and reports it."""
        key, future = self._queue.popleft()
        with self._meter.measure(WRITES):
            problem = future.exception()
        if problem is not None and not isinstance(problem, Exception):
            raise problem
        self._ended(key, problem)


def feed_of(
    context: RunContext,
    shard: Shard,
    outcome: Outcome,
    pick: Callable[[VideoRef], Sequence[FrameIndex]],
    size: int,
    meter: Meter,
) -> FrameFeed:
    """Returns a feed of the videos of a shard that no earlier stage skipped.

    Args:
        pick: the frames of a video that are wanted.
        size: frames of a batch.
    """
    videos = [video for video in shard.videos if video not in outcome.skipped_before]
    runner = context.config.runner
    return FrameFeed(
        context.reader(), videos, pick, size, runner.decode_workers, runner.batches_ahead, meter
    )
