"""Frames that come in time and results that go out behind, around the work of one shard.

Frames are decoded in threads (image decoders let go of the interpreter's lock), over the ends of
videos: while the last batch of one is worked on, the first of the next is decoded. Results are
written in one thread, in the order they were handed over. Both are bounded: there are never more
than ``ahead`` batches beside the one worked on, and never more than ``behind`` results not yet
written. What comes out depends on none of these numbers.
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
    """A batch of one video; ``decoded`` has a future a frame, None where nobody works ahead."""

    video: VideoRef
    indices: Sequence[FrameIndex]
    decoded: Sequence[Future[Image]] | None


class FrameFeed:
    """The frames of a shard's videos, in batches of one video each, decoded ahead.

    Args:
        reader: the data set; one that is ``in_order`` has one worker.
        videos: ids in the order in which they will be asked for; one may be left out.
        pick: the frames of a video that are wanted; none for a video that needs none.
        size: frames of a batch; the last of a video may have fewer.
        workers: threads; 0 decodes a batch when it is asked for.
        ahead: batches decoded, or being decoded, beside the one that is worked on.
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
        """The video, looked up once. Raises InputError as the reader does."""
        if self._pool is not None:
            self._fill(self._ahead)
        found = self._known.pop(video_id, None)
        return self._reader.video(video_id) if found is None else found

    def batches(self, video: VideoRef) -> Iterator[list[Image]]:
        """The wanted frames of a video, in order.

        A video that is left in the middle is over; its frames that are on their way are dropped.

        Raises:
            InputError: of the first frame, in order, that is broken.
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
        """The next batch, where it is the video's; None where its frames were not foreseen."""
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
        """Has ``count`` batches on their way, if there are as many."""
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

    Leaving the block waits for all of them; after an error in the block what has not begun is left.

    Args:
        behind: writes not yet done at any time; 0 does each at once, in the caller's thread.
        ended: told of each write in turn, in the caller's thread: its key, and None or its error.
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
        """Hands a write over; waits until fewer than ``behind`` are left."""
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
        """Waits for the oldest write and tells of it."""
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
    """The frames of those videos of a shard that no earlier stage skipped.

    Args:
        pick: the frames of a video that are wanted.
        size: frames of a batch.
    """
    videos = [video for video in shard.videos if video not in outcome.skipped_before]
    runner = context.config.runner
    return FrameFeed(
        context.reader(), videos, pick, size, runner.decode_workers, runner.batches_ahead, meter
    )
