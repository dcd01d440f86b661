"""What the benchmarks of whole runs make of their figures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.videos import write_videos
from benchmarks.overhead import _account
from benchmarks.refuse import EXPRESSIONS, FRAMES, measure
from benchmarks.shortcuts import agreement
from flows.timing import BUSY, WRITES
from flows.timing import FRAMES as WAITS
from pipeline.types import Boxes, FrameIndex, Receipt
from storage.datasets import open_dataset


def receipt(
    stage: str, seconds: float, busy: float, frames: float = 0, writes: float = 0
) -> Receipt:
    counts = {BUSY: busy, WAITS: frames, WRITES: writes, "frames": 4.0}
    return Receipt(stage, "00000", "", (), counts=counts, seconds=seconds)


def test_every_second_is_accounted_for_once() -> None:
    found = _account(
        100,
        {
            "augment": [receipt("augment", 1, 0.5)],
            "ground": [receipt("ground", 50, 48, frames=1), receipt("ground", 10, 9)],
            "segment": [receipt("segment", 30, 27, writes=2)],
            "track": [receipt("track", 1, 1)],
            "fuse": [receipt("fuse", 2, 1)],
            "rank": [receipt("rank", 2, 1.5)],
        },
    )
    assert found["parts"]["models"] == 84
    assert found["share_around_the_models"] == pytest.approx(0.16)
    assert found["parts"]["augment, track, fuse and rank"] == 4
    assert found["parts"]["planning and Prefect"] == 4
    assert sum(found["parts"].values()) == pytest.approx(100)


def test_agreement_is_of_the_best_boxes_and_a_missing_one_counts_nothing() -> None:
    def boxes(*rows: tuple[int, int, float]) -> Boxes:
        return Boxes(
            np.array([[x, 0, x + 10, 10] for _, _, x in rows], np.float32),
            np.ones(len(rows), np.float32),
            np.array([text for text, _, _ in rows], np.int32),
            np.array([rank for _, rank, _ in rows], np.int32),
        )

    base = {"v": (("a", "b"), [boxes((0, 0, 0), (0, 1, 50), (1, 0, 20)), boxes((1, 0, 20))])}
    assert agreement(base, base) == (1, 1)
    other = {"v": (("a", "b"), [boxes((0, 0, 5), (1, 0, 20)), boxes((0, 0, 20))])}
    mean, half = agreement(other, base)
    assert mean == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert half == pytest.approx(1 / 3)


def test_videos_are_as_long_and_as_large_as_asked_for(tmp_path: Path) -> None:
    write_videos(tmp_path, 2, 23, 5, 36, 64)
    reader = open_dataset("refytvos", tmp_path, "train")
    assert len(reader.video_ids()) == 2
    video = reader.video(reader.video_ids()[1])
    assert (len(video), video.height, video.width) == (23, 36, 64)
    assert len(reader.expressions(video.id)) == 5
    frames = [reader.frame(video, FrameIndex(index)) for index in (0, 10, 22)]
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.slow
def test_refuse_does_the_work_of_a_video() -> None:
    found = measure(videos=1)
    assert (FRAMES, EXPRESSIONS) == (27, 4)
    assert min(found["seconds_a_video"].values()) > 0
    assert found["minutes"] == sum(found["seconds_a_video"].values()) * 3500 / 2 / 60
