"""Objects that a model finds by phrases take the place of the tracks that show the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest

from pipeline.config import TrackConfig
from pipeline.ports import Image, SeenObjects
from pipeline.types import Boxes, Candidates, Tracks
from stages.track.detection import Detection
from stages.track.objects import evidence_of

CELLS = (8, 16)
FRAMES = 6


def mask(x: int, width: int = 4) -> np.ndarray:
    found = np.full(CELLS, -4, np.float16)
    found[2:6, x : x + width] = 4
    return found


class Sees:
    """Object 3 moves to the right; object 8 stays; object 5 is seen once."""

    def __init__(self, second: int = 8, twin: bool = False) -> None:
        self.phrases: Sequence[str] = ()
        self._second, self._twin = second, twin

    def detect(
        self, frames: Iterable[Image], phrases: Sequence[str], cells: tuple[int, int]
    ) -> Iterator[SeenObjects]:
        self.phrases = phrases
        for place, _ in enumerate(frames):
            seen = {3: mask(place), self._second: mask(place if self._twin else 12)}
            if place == 2:
                seen[5] = mask(7, 1)
            yield SeenObjects(
                np.array([*seen], np.int64),
                np.stack([*seen.values()]),
                np.full(len(seen), 0.9, np.float32),
            )


def stored(missing: int = -1) -> tuple[list[Boxes], list[Candidates], Tracks]:
    """Two instances a frame, whose tracks break in the middle; sentence 0 fits the moving one."""
    boxes, candidates, tracks = [], [], []
    for frame in range(FRAMES):
        rows = [1] if frame == missing else [0, 1]
        xyxy = np.array([[frame, 2, frame + 4, 6], [12, 2, 16, 6]], np.float32)[rows]
        score = np.array([0.6, 0.4], np.float32)[rows]
        text, rank = np.array(rows, np.int32), np.zeros(len(rows), np.int32)
        boxes.append(Boxes(xyxy * 4, score, text, rank))
        logits = np.stack([mask(frame), mask(12)])[rows]
        ones = np.full(len(rows), 0.8, np.float32)
        candidates.append(Candidates(logits, ones, ones, np.arange(len(rows), dtype=np.int32)))
        early = np.array([0, 1] if frame < 3 else [2, 3], np.int32)[rows]
        tracks.append(early)
    return boxes, candidates, Tracks(tuple(tracks))


def detected(
    tracker: Sees, missing: int = -1, **settings: int
) -> tuple[list[Boxes], list[Candidates], Tracks]:
    boxes, candidates, tracks = stored(missing)
    config = TrackConfig.model_validate(settings)
    made = Detection(FRAMES, (32, 64), CELLS)
    made.detect(tracker, [np.zeros((32, 64, 3), np.uint8)] * FRAMES, ["dog"])
    tracks = made.matched(candidates, tracks, config)
    made.compare(config.same_mask_iou)
    scores = [item.scores for item in candidates]
    evidence = evidence_of(2, boxes, scores, tracks)
    found = list(made.candidates(boxes, candidates, tracks, evidence, config))
    renamed = made.tracks()
    made.close()
    return made.boxes, found, renamed


def test_an_object_joins_the_tracks_that_broke() -> None:
    tracker = Sees()
    _, candidates, tracks = detected(tracker)
    assert tracker.phrases == ["dog"]
    assert [sorted(of.tolist()) for of in tracks.of_candidate] == [[0, 1]] * FRAMES
    for frame, (item, of) in enumerate(zip(candidates, tracks.of_candidate, strict=True)):
        assert len(item) == 2
        for row, track in enumerate(of.tolist()):
            expected = mask(frame) if track == tracks.of_candidate[0][0] else mask(12)
            assert np.array_equal(item.logits[row] > 0, expected > 0)


def test_a_frame_that_the_grounding_model_missed_gets_the_object() -> None:
    boxes, candidates, tracks = detected(Sees(), missing=1)
    assert len(candidates[1]) == 2
    moving = int(tracks.of_candidate[0][0])
    [row] = np.flatnonzero(tracks.of_candidate[1] == moving)
    assert (candidates[1].logits[row] > 0).sum() == 16
    [added] = np.flatnonzero(boxes[1].text == 0)
    assert boxes[1].score[added] == pytest.approx(0.6)
    np.testing.assert_allclose(boxes[1].xyxy[added], [4, 8, 20, 24])


def test_an_object_without_a_track_and_too_many_of_them_are_left_out() -> None:
    _, candidates, tracks = detected(Sees(), objects=1)
    assert [len(item) for item in candidates] == [2] * FRAMES
    # The other object's tracks stay as they were: broken.
    assert len({int(t) for of in tracks.of_candidate for t in of.tolist()}) == 3


def test_two_phrases_for_one_object_make_one_track() -> None:
    _, candidates, tracks = detected(Sees(second=4, twin=True))
    moving = {
        int(track)
        for frame, (item, of) in enumerate(zip(candidates, tracks.of_candidate, strict=True))
        for logits, track in zip(item.logits, of, strict=True)
        if np.array_equal(logits > 0, mask(frame) > 0)
    }
    assert len(moving) == 1
