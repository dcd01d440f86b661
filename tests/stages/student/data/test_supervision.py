"""What is known of frames: values, pseudo-masks, annotation, and clips drawn of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import FIRST_MASK
from pipeline.geometry import masks_to_boxes
from pipeline.shapes.scene import Scene
from pipeline.types import Status
from stages.student.data.annotation import Annotations
from stages.student.data.clips import Clips, Shape
from stages.student.data.supervision import (
    ABSENT,
    UNKNOWN,
    FrameSupervision,
    PseudoMasks,
    of_boxes,
    of_mask,
    of_points,
)
from tests.fakes.student import Partly, Videos, two_scenes
from tests.pipeline.boxes import box_to_mask

BOX = np.array([[2, 1, 5, 4]], np.float32)


def square() -> NDArray[np.bool_]:
    return box_to_mask(BOX[0], 6, 8)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return two_scenes()


# Values.


def test_masks_boxes_and_what_an_empty_one_says() -> None:
    assert of_mask(square()).kind == "mask" and of_mask(square(), 0.3).weight == 0.3
    assert of_mask(np.zeros((4, 4), np.bool_), 0.5) == FrameSupervision("absent", 0.5)
    assert of_mask(square(), 0.0) is UNKNOWN
    assert of_boxes(BOX).kind == "boxes" and of_boxes(BOX[:0]) is ABSENT


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "mask"},
        {"kind": "boxes"},
        {"kind": "boxes", "boxes": BOX[:0]},
        {"kind": "boxes", "boxes": BOX, "mask": square()},
        {"kind": "absent", "mask": square()},
        {"kind": "absent", "weight": 0.0},
        {"kind": "absent", "weight": 1.5},
        {"kind": "unknown"},
        {"kind": "points"},
        {"kind": "points", "points": BOX[:, :2], "boxes": BOX},
    ],
)
def test_what_contradicts_itself_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected what its kind says"):
        FrameSupervision(**values)


def test_mirroring() -> None:
    mask = of_mask(square(), 0.5).mirrored(8)
    assert mask.mask is not None and mask.weight == 0.5
    np.testing.assert_array_equal(mask.mask, square()[:, ::-1])
    boxes = of_boxes(BOX).mirrored(8).boxes
    assert boxes is not None
    np.testing.assert_array_equal(boxes, masks_to_boxes(square()[None, :, ::-1]))
    points = of_points(np.array([[2.5, 1.5], [8, 0]], np.float32)).mirrored(8).points
    assert points is not None and points.tolist() == [[5.5, 1.5], [0, 0]]
    assert ABSENT.mirrored(8) is ABSENT and UNKNOWN.mirrored(8) is UNKNOWN


# Sources.


class Stored(Videos):
    """Pseudo-masks of every status."""

    def read(self, video_id: str, expression_id: str, frames: Sequence[int]) -> Any:
        masks, _, _ = super().read(video_id, expression_id, frames)
        weight, status = self.quality(video_id, expression_id)
        masks = masks & (status == Status.PRESENT)[list(frames), None, None]
        return masks, weight[list(frames)], status[list(frames)]

    def quality(self, video_id: str, expression_id: str) -> Any:
        frames = self.scenes[video_id].frames
        weight, status = np.zeros(frames, np.float32), np.zeros(frames, np.uint8)
        weight[:3], status[:3] = (0.25, 1.0, 0.5), (Status.PRESENT, Status.PRESENT, Status.ABSENT)
        return weight, status


def test_pseudo_masks_are_masks_by_their_weight(scenes: list[Scene]) -> None:
    stored = Stored(scenes)
    source = PseudoMasks(stored)
    found = source.frames("v0", "0", [0, 1, 2, 3])
    assert [(item.kind, item.weight) for item in found] == [
        ("mask", 0.25),
        ("mask", 1.0),
        ("absent", 0.5),
        ("unknown", 0.0),
    ]
    np.testing.assert_array_equal(found[1].mask, stored.drawn["v0"][1].masks[0])
    samples = list(source.samples())
    assert [key[:2] for key in samples] == list(stored.samples())
    assert samples[0][2].tolist()[:4] == [0.25, 1.0, 0.5, 0.0]


# Clips.


def drawn_clips(clips: Clips, count: int) -> Iterator[Any]:
    for number in range(count):
        yield from clips[number]


def test_clips_carry_boxes_mirrored_with_their_frames(scenes: list[Scene]) -> None:
    partly = Partly(scenes, set(), set(range(12)))
    clips = Clips(partly, Annotations(partly, partly.samples()), Shape(3))
    mirrored = 0
    for clip in drawn_clips(clips, 12):
        assert not clip.mask.any()
        flipped = "right" in clip.text
        mirrored += flipped
        boxed = [item for item in clip.supervision if item.kind == "boxes"]
        assert boxed
        for image, item in zip(clip.images, clip.supervision, strict=True):
            if item.kind != "boxes":
                continue
            shown = image[:, ::-1] if flipped else image
            text = clip.text.replace("right", "left")
            video, time = next(
                (video, time)
                for video, frames in partly.drawn.items()
                for time, frame in enumerate(frames)
                if np.array_equal(frame.image, shown)
            )
            row = [each.text for each in partly.expressions(video)].index(text)
            mask = partly.drawn[video][time].masks[row]
            mask = mask[:, ::-1] if flipped else mask
            np.testing.assert_array_equal(item.boxes, masks_to_boxes(mask[None]))
    assert 0 < mirrored < 12


def test_unknown_frames_fill_a_clip_where_that_is_asked_for(scenes: list[Scene]) -> None:
    partly = Partly(scenes, {2}, set())
    source = Annotations(partly, partly.samples())
    for clip in drawn_clips(Clips(partly, source, Shape(4)), 4):
        assert clip.weight.tolist() == [1.0]
    filled = list(drawn_clips(Clips(partly, source, Shape(3, fill=True)), 8))
    for clip in filled:
        assert len(clip.images) == 3 and clip.weight.sum() == 1
        assert len({image.tobytes() for image in clip.images}) == 3
    assert len({int(clip.weight.argmax()) for clip in filled}) > 1, "in the order of the video"


def test_a_clip_of_boxes_holds_a_mask_where_there_is_one(scenes: list[Scene]) -> None:
    partly = Partly(scenes, {2}, set(range(12)))
    weak = Annotations(partly, partly.samples())
    for clip in drawn_clips(Clips(partly, weak, Shape(2)), 12):
        kinds = [item.kind for item in clip.supervision]
        assert len(kinds) == 2 and "mask" in kinds
    alone = Annotations(partly, partly.samples(), FIRST_MASK)
    assert not any(known.anchor.any() for known in alone.samples()), "nothing to choose between"
