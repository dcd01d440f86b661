"""Frames ahead, writes behind: order, errors, bounds; no result depends on the numbers."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from flows.integrity.content_digest import content_digest
from flows.labelling.prefetch import FrameFeed, WriteBehind
from flows.timing import FRAMES, WRITES, Meter
from pipeline.errors import InputError
from pipeline.ports import Image
from pipeline.types import FrameIndex, VideoRef
from tests.flows.conftest import Site

FRAMES_OF = {"a": 5, "b": 0, "c": 7, "d": 3}


class Reader:
    """Frames that say where they come from; some are broken, some videos are missing."""

    name, split, in_order = "fake", "train", False

    def __init__(self, broken: set[tuple[str, int]] = frozenset(), missing: str = "") -> None:  # type: ignore[assignment]
        self.broken, self.missing = broken, missing
        self.asked: list[tuple[str, int]] = []
        self.looked_up: list[str] = []
        self.threads: set[int] = set()
        self._lock = threading.Lock()

    def video(self, video_id: str) -> VideoRef:
        self.looked_up.append(video_id)
        if video_id in self.missing:
            raise InputError(Path(video_id), "no folder", "frames", "restore it")
        count = FRAMES_OF[video_id]
        names = tuple(f"{index:03d}" for index in range(count))
        return VideoRef(video_id, names, tuple(Path(name) for name in names), 4, 4)

    def frame(self, video: VideoRef, index: FrameIndex) -> Image:
        with self._lock:
            self.asked.append((video.id, int(index)))
            self.threads.add(threading.get_ident())
        # Later frames are ready first.
        time.sleep(0.002 * (3 - index % 4))
        if (video.id, int(index)) in self.broken:
            raise InputError(Path(f"{video.id}/{index}"), "broken", "a frame", "restore it")
        return np.full((4, 4, 3), 10 * ord(video.id) + index & 255, np.uint8)


def every_frame(video: VideoRef) -> Sequence[FrameIndex]:
    return [FrameIndex(index) for index in range(len(video))]


def feed_of(reader: Reader, workers: int, ahead: int = 2, size: int = 2) -> FrameFeed:
    return FrameFeed(reader, list(FRAMES_OF), every_frame, size, workers, ahead, Meter())  # type: ignore[arg-type]


def values(batches: list[list[Image]]) -> list[list[int]]:
    return [[int(image[0, 0, 0]) for image in batch] for batch in batches]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_every_frame_comes_in_order_in_batches_of_one_video(workers: int) -> None:
    with feed_of(Reader(), workers) as feed:
        found = {name: values(list(feed.batches(feed.video(name)))) for name in FRAMES_OF}
    for name, count in FRAMES_OF.items():
        expected = [10 * ord(name) + index & 255 for index in range(count)]
        assert found[name] == [expected[start : start + 2] for start in range(0, count, 2)]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_broken_frame_is_raised_for_its_own_video_and_the_next_goes_on(workers: int) -> None:
    reader = Reader({("a", 3), ("a", 2)})
    with feed_of(reader, workers) as feed:
        batches = feed.batches(feed.video("a"))
        assert len(next(batches)) == 2
        # Of the frames of a batch the first that is broken, whichever was decoded first.
        with pytest.raises(InputError, match="a/2"):
            next(batches)
        assert len(list(feed.batches(feed.video("c")))) == 4


def test_a_video_that_is_never_asked_for_holds_up_no_other() -> None:
    with feed_of(Reader(), workers=2) as feed:
        feed.video("a")
        assert len(list(feed.batches(feed.video("c")))) == 4
        assert len(list(feed.batches(feed.video("d")))) == 2


def test_a_missing_video_is_raised_when_it_is_asked_for() -> None:
    with feed_of(Reader(missing="c"), workers=2) as feed:
        assert len(list(feed.batches(feed.video("a")))) == 3
        with pytest.raises(InputError, match="no folder"):
            feed.video("c")
        assert len(list(feed.batches(feed.video("d")))) == 2


def test_a_video_that_was_missing_a_moment_ago_still_has_all_its_frames() -> None:
    reader = Reader(missing="c")
    with feed_of(reader, workers=2) as feed:
        list(feed.batches(feed.video("a")))
        reader.missing = ""
        assert values(list(feed.batches(feed.video("c"))))[3] == [10 * ord("c") + 6 & 255]
        assert len(list(feed.batches(feed.video("d")))) == 2


@pytest.mark.parametrize(("workers", "ahead", "size"), [(1, 1, 2), (4, 2, 2), (4, 3, 1)])
def test_no_more_is_decoded_ahead_than_allowed(workers: int, ahead: int, size: int) -> None:
    reader = Reader()
    handed = 0
    with feed_of(reader, workers, ahead, size) as feed:
        for name in FRAMES_OF:
            for batch in feed.batches(feed.video(name)):
                handed += len(batch)
                time.sleep(0.03)
                assert len(reader.asked) <= handed + ahead * size
    assert sorted(reader.asked) == [(n, i) for n, c in FRAMES_OF.items() for i in range(c)]
    assert len(reader.looked_up) == len(FRAMES_OF)


def test_the_next_video_is_on_its_way_before_one_ends() -> None:
    reader = Reader()
    with feed_of(reader, workers=1) as feed:
        batches = feed.batches(feed.video("a"))
        for _ in range(3):
            next(batches)
        time.sleep(0.1)
        assert ("c", 0) in reader.asked


def test_a_reader_that_is_in_order_has_one_worker() -> None:
    reader = Reader()
    reader.in_order = True
    with feed_of(reader, workers=4) as feed:
        for name in FRAMES_OF:
            list(feed.batches(feed.video(name)))
    assert len(reader.threads) == 1
    assert reader.asked == [(n, i) for n, c in FRAMES_OF.items() for i in range(c)]


def test_leaving_in_the_middle_ends_the_workers() -> None:
    before = threading.active_count()
    reader = Reader()
    with pytest.raises(KeyboardInterrupt), feed_of(reader, workers=2) as feed:
        next(feed.batches(feed.video("a")))
        raise KeyboardInterrupt
    assert threading.active_count() == before
    asked = len(reader.asked)
    time.sleep(0.05)
    assert len(reader.asked) == asked


def test_waits_are_measured() -> None:
    meter = Meter()
    with FrameFeed(Reader(), ["c"], every_frame, 2, 0, 1, meter) as feed:  # type: ignore[arg-type]
        list(feed.batches(feed.video("c")))
    assert meter.seconds[FRAMES] >= 0.002 * (3 + 2 + 1 + 3 + 2 + 1)


@pytest.mark.parametrize("behind", [0, 1, 3])
def test_writes_keep_their_order_and_their_number_is_bounded(behind: int) -> None:
    written: list[int] = []
    ended: list[int] = []
    meter = Meter()

    def write(number: int) -> None:
        time.sleep(0.005)
        written.append(number)

    with WriteBehind[int](behind, lambda key, error: ended.append(key), meter) as pool:
        for number in range(8):
            pool.put(number, lambda number=number: write(number))  # type: ignore[misc]
            assert number + 1 - len(ended) <= behind
    assert written == ended == list(range(8))
    assert meter.seconds[WRITES] > 0


@pytest.mark.parametrize("behind", [0, 2])
def test_a_failed_write_is_told_with_its_key(behind: int) -> None:
    told: list[tuple[str, str]] = []

    def fail() -> None:
        raise InputError(Path("b"), "a bad name", "a name", "fix it")

    def ended(key: str, error: Exception | None) -> None:
        told.append((key, "" if error is None else str(error)))

    with WriteBehind[str](behind, ended, Meter()) as pool:
        pool.put("a", lambda: None)
        pool.put("b", fail)
        pool.put("c", lambda: None)
    assert [key for key, _ in told] == ["a", "b", "c"]
    assert [bool(error) for _, error in told] == [False, True, False]
    assert "a bad name" in told[1][1]


def test_after_an_error_in_the_block_nothing_more_is_written() -> None:
    written: list[int] = []
    first = threading.Event()

    def write(number: int) -> None:
        first.wait(5)
        written.append(number)

    def ended(key: int, error: Exception | None) -> None:
        raise AssertionError("nobody asks any more")

    with pytest.raises(KeyboardInterrupt), WriteBehind[int](3, ended, Meter()) as pool:
        for number in range(3):
            pool.put(number, lambda number=number: write(number))  # type: ignore[misc]
        threading.Timer(0.05, first.set).start()
        raise KeyboardInterrupt
    assert written == [0]


@pytest.mark.slow
def test_a_run_is_the_same_with_any_number_of_workers(site: Site) -> None:
    broken = site.data / "train" / "JPEGImages" / "clip01" / "00010.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    digests = set()
    for workers, ahead, behind in ((0, 1, 0), (1, 1, 1), (4, 3, 2)):
        site.out = site.out.parent / f"runs{workers}"
        site.run(
            f"runner.decode_workers={workers}",
            f"runner.batches_ahead={ahead}",
            f"runner.writes_behind={behind}",
            "ground.batch_frames=2",
            "segment.batch_frames=3",
        )
        assert "clip01" in site.shown
        digests.add(content_digest(site.folder))
    assert len(digests) == 1
    assert not site.run("runner.decode_workers=1").pending()
