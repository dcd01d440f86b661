"""Objects are followed from where they are surest, and frames without a box get their masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import FuseConfig, TrackConfig
from pipeline.ports import SeenObjects
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Positive,
    Provenance,
    SampleKey,
    Status,
    Tracks,
)
from stages.fuse import fuse
from stages.track import associate
from stages.track.objects import choose_objects, evidence_of
from stages.track.propagation import Propagation
from tests.fakes.trackers import ColourTracker

SIZE, CELLS, SIDE = (40, 64), (20, 32), 12
RED, BLUE, GREY = (220, 30, 30), (30, 30, 220), (120, 120, 120)
CONFIG = TrackConfig(gap=3)
FRAMES = 30

Place = tuple[int, int]
Scores = Mapping[str, Sequence[float]]
SCORES: Scores = {"red": (0.8, 0.1), "blue": (0.1, 0.8)}


def picture(places: Mapping[str, Place]) -> NDArray[np.uint8]:
    image = np.full((*SIZE, 3), GREY, np.uint8)
    for name, (x, y) in places.items():
        image[y : y + SIDE, x : x + SIDE] = RED if name == "red" else BLUE
    return image


def found_in(
    places: Mapping[str, Place], scores: Scores = SCORES, sentences: int = 2
) -> tuple[Boxes, Candidates]:
    """What a grounding model and a segmenter find of squares at some places."""
    count = len(places)
    xyxy = np.array([[x, y, x + SIDE, y + SIDE] for x, y in places.values()], np.float32)
    score = np.array([scores[name] for name in places], np.float32).reshape(count, sentences)
    logits = np.full((count, *CELLS), -4, np.float16)
    for row, (x, y) in enumerate(places.values()):
        logits[row, y // 2 : (y + SIDE) // 2, x // 2 : (x + SIDE) // 2] = 4
    boxes = Boxes(
        np.tile(xyxy.reshape(-1, 4), (sentences, 1)),
        score.T.ravel(),
        np.repeat(np.arange(sentences, dtype=np.int32), count),
        np.argsort(np.argsort(-score, axis=0), axis=0).T.ravel().astype(np.int32),
    )
    ones = np.ones(count, np.float32)
    return boxes, Candidates(
        logits, ones, ones, np.tile(np.arange(count, dtype=np.int32), sentences)
    )


class Followed:
    """A video after association and propagation."""

    def __init__(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        found: Sequence[tuple[Boxes, Candidates]],
        tracker: object = None,
        config: TrackConfig = CONFIG,
    ) -> None:
        boxes, candidates = [item[0] for item in found], [item[1] for item in found]
        scores = [item.scores for item in candidates]
        self.before = associate(2, boxes, candidates, config)
        evidence = evidence_of(2, boxes, scores, self.before)
        self.objects = choose_objects(boxes, scores, self.before, evidence, config)
        self.tracker = tracker or ColourTracker()

        def frames(order: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
            return (pictures[at] for at in order)

        with closing(Propagation(self.objects, len(pictures), SIZE, CELLS)) as followed:
            followed.follow(self.tracker, frames, config.same_mask_iou)  # type: ignore[arg-type]
            self.candidates = list(
                followed.candidates(boxes, candidates, self.before, evidence, config)
            )
        self.boxes, self.tracks = followed.boxes, followed.tracks()

    def fused(self, positive: str) -> list[Status]:
        """The verdict of each frame on a sentence."""
        key = SampleKey("d", "train", "v", "0")
        one = Augmentation(key, (Positive(positive, 1.0, 1.0),), (), Provenance("none", "", "", 0))
        scores = [item.scores for item in self.candidates]
        texts = ["the red square", "the blue square"]
        found = fuse(one, texts, self.boxes, scores, self.tracks, FuseConfig())
        return [Status(value) for value in found.status.tolist()]


def moving(frames: int = FRAMES) -> list[dict[str, Place]]:
    return [{"red": (t, 4), "blue": (48 - t, 24)} for t in range(frames)]


def test_a_frame_that_the_grounding_model_missed_gets_the_mask_and_the_mean_scores() -> None:
    places = moving()
    seen = [
        {name: at for name, at in item.items() if name == "blue" or t not in range(8, 20)}
        for t, item in enumerate(places)
    ]
    found = Followed([picture(item) for item in places], [found_in(item) for item in seen])
    assert found.fused("the red square") == [Status.PRESENT] * FRAMES
    for t, item in enumerate(places):
        boxes, candidates = found.boxes[t], found.candidates[t]
        assert len(candidates) == 2 and len(boxes) == 4
        red = np.flatnonzero(found.tracks.of_candidate[t] == found.tracks.of_candidate[0][0])
        rows = np.flatnonzero(candidates.box_row == red[0])
        assert boxes.score[rows].tolist() == pytest.approx([0.8, 0.1])
        x, y = item["red"]
        assert np.allclose(boxes.xyxy[rows], [x, y, x + SIDE, y + SIDE], atol=2)
        assert (candidates.logits[red[0]] > 0).sum() == pytest.approx((SIDE // 2) ** 2, abs=13)


def test_boxes_are_in_the_order_of_a_table_of_boxes() -> None:
    places = moving()
    seen = [item if t % 3 else {"blue": item["blue"]} for t, item in enumerate(places)]
    found = Followed([picture(item) for item in places], [found_in(item) for item in seen])
    for boxes, candidates in zip(found.boxes, found.candidates, strict=True):
        pairs = list(zip(boxes.text.tolist(), boxes.rank.tolist(), strict=True))
        assert pairs == sorted(pairs) and len(set(pairs)) == len(pairs)
        assert len(candidates.box_row) == len(boxes)


def test_an_object_that_is_gone_has_no_mask_and_keeps_its_track_when_it_is_back() -> None:
    places = [
        {name: at for name, at in item.items() if name == "blue" or not 10 <= t < 16}
        for t, item in enumerate(moving())
    ]
    found = Followed([picture(item) for item in places], [found_in(item) for item in places])
    verdicts = found.fused("the red square")
    assert [t for t, status in enumerate(verdicts) if status != Status.PRESENT] == list(
        range(10, 16)
    )
    assert len(found.tracks) == 2


def test_tracks_that_broke_are_one_object() -> None:
    places = moving()
    changing = [
        ({"red": (0.8, 0.1), "blue": (0.1, 0.8)}, {"red": (0.2, 0.9), "blue": (0.1, 0.8)})[t > 14]
        for t in range(FRAMES)
    ]
    seen = [
        {name: at for name, at in item.items() if name == "blue" or not 10 <= t < 20}
        for t, item in enumerate(places)
    ]
    found = Followed(
        [picture(item) for item in places],
        [found_in(item, scores) for item, scores in zip(seen, changing, strict=True)],
    )
    assert len(found.before) == 3, "association takes the red square for two"
    assert len(found.tracks) == 2
    assert all(len(set(item.tolist())) == 2 for item in found.tracks.of_candidate)


def test_it_is_followed_from_its_surest_frames() -> None:
    places = moving()
    strength = [0.9 if t in (3, 4, 25) else 0.5 for t in range(FRAMES)]
    found = Followed(
        [picture(item) for item in places],
        [
            found_in(item, {"red": (s, 0.1), "blue": (0.1, s)})
            for item, s in zip(places, strength, strict=True)
        ],
        config=TrackConfig(prompts=2),
    )
    assert [sorted(item.boxes) for item in found.objects] == [[3, 25], [3, 25]]
    assert isinstance(found.tracker, ColourTracker)
    assert found.tracker.passes == [26, 27], "back from 25, then on from 3"


def test_only_the_objects_with_the_most_evidence_are_followed() -> None:
    places = moving()
    weak = {"red": (0.8, 0.1), "blue": (0.1, 0.3)}
    found = Followed(
        [picture(item) for item in places],
        [found_in(item, weak) for item in places],
        config=TrackConfig(objects=1),
    )
    assert len(found.objects) == 1 and len(found.tracks) == 2
    assert all(len(item) == 2 for item in found.candidates)


class Drifting(ColourTracker):
    """Forwards, it slides off its object after a while; backwards it does not."""

    def follow(self, frames, prompts, cells):  # type: ignore[no-untyped-def]
        drifts = bool(self.passes)
        for place, item in enumerate(super().follow(frames, prompts, cells)):
            if drifts and place > 8:
                moved = np.roll(item.logits, 5, axis=1)
                yield SeenObjects(item.objects, moved, item.visible)
            else:
                yield item


def test_where_both_ways_disagree_the_mask_is_less_sure() -> None:
    places = moving()
    seen = [item if t in (0, 29) else {"blue": item["blue"]} for t, item in enumerate(places)]
    found = Followed(
        [picture(item) for item in places], [found_in(item) for item in seen], Drifting()
    )
    sure = [
        float(item.predicted_iou[np.flatnonzero(track == 0)[0]])
        for item, track in zip(found.candidates, found.tracks.of_candidate, strict=True)
    ]
    assert min(sure[:9]) > 0.95 and max(sure[9:]) < 0.5
    x, y = places[25]["red"]
    red = np.flatnonzero(found.tracks.of_candidate[25] == 0)[0]
    mask = found.candidates[25].logits[red] > 0
    assert mask[y // 2 : y // 2 + 6, x // 2 + 1 : x // 2 + 6].all(), "the nearer way is taken"


def test_a_mask_elsewhere_of_a_followed_object_has_no_track() -> None:
    """The segmenter's mask that shows another place than the tracker's is not the object."""
    places = moving()
    wrong = [dict(item, red=(2, 26)) if t == 12 else item for t, item in enumerate(places)]
    found = Followed([picture(item) for item in places], [found_in(item) for item in wrong])
    tracks = found.tracks.of_candidate[12].tolist()
    assert sorted(tracks) == [-1, 0, 1]


def test_no_sentence_no_object() -> None:
    boxes, candidates = found_in({})
    empty = Tracks((np.zeros(0, np.int32),))
    evidence = evidence_of(2, [boxes], [candidates.scores], empty)
    assert choose_objects([boxes], [candidates.scores], empty, evidence, CONFIG) == []
