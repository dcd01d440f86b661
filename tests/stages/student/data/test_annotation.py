"""A data set's annotation as supervision: all of it, and what a budget pays for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.config import BOXES, FIRST_MASK, FIRST_MASK_BOXES, BudgetConfig
from pipeline.errors import InputError
from pipeline.shapes.scene import Scene
from pipeline.types import Expression, FrameIndex, VideoRef
from stages.student.data.annotation import Annotations, clicked_point
from stages.student.data.supervision import ABSENT, UNKNOWN, PseudoMasks
from tests.fakes.student import Partly, Videos, two_scenes

EVERY = set(range(100))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return two_scenes()


def bought(videos: Videos, budget: BudgetConfig | None, **more: Any) -> str:
    """The kinds of the frames of the first sample, a letter each."""
    source = Annotations(videos, videos.samples(), budget, **more)
    frames = range(videos.scenes["v0"].frames)
    return "".join(item.kind[0] for item in source.frames("v0", "0", frames))


def test_all_annotation_is_masks_first_then_boxes_then_nothing(scenes: list[Scene]) -> None:
    partly, full = Partly(scenes, {0}, {0, 1, 2}), Videos(scenes)
    both = Annotations(partly, partly.samples())
    without_boxes = Annotations(partly, partly.samples(), FIRST_MASK)
    without_masks = Annotations(partly, partly.samples(), BOXES)

    def kinds(source: Annotations) -> list[str]:
        return [item.kind for item in source.frames("v1", "1", [0, 1, 3])]

    truth = full.drawn["v1"]
    assert truth[0].masks[1].any() and truth[1].masks[1].any()
    assert kinds(both) == ["mask", "boxes", "unknown"]
    assert kinds(without_boxes) == ["mask", "unknown", "unknown"]
    assert kinds(without_masks) == ["boxes", "boxes", "unknown"]
    for source, known in ((both, 3), (without_boxes, 1), (without_masks, 3)):
        for _, _, weight, _ in source.samples():
            assert np.flatnonzero(weight).tolist() == list(range(known))


@pytest.mark.parametrize(
    ("budget", "expected"), [(FIRST_MASK_BOXES, "ambb"), (FIRST_MASK, "umuu"), (BOXES, "abbb")]
)
def test_the_first_mask_is_the_first_that_shows_the_target(
    scenes: list[Scene], budget: BudgetConfig, expected: str
) -> None:
    partly = Partly(scenes, EVERY, EVERY)
    partly.drawn["v0"][0].masks[0][:] = False
    assert partly.scenes["v0"].frames == 4
    assert bought(partly, budget) == expected


def test_a_budget_buys_masks_boxes_and_points_and_counts_them(scenes: list[Scene]) -> None:
    partly = Partly(scenes, EVERY, EVERY)
    length = partly.scenes["v0"].frames
    found = bought(partly, BudgetConfig(mask_frames=2, boxes_every=3, points_every=2))
    rest = ["b" if t % 3 == 0 else "?" for t in range(length - 2)]
    left = iter(range(length))
    rest = [("p" if next(left) % 2 == 0 else "u") if kind == "?" else kind for kind in rest]
    assert found == "mm" + "".join(rest)
    source = Annotations(partly, partly.samples(), BudgetConfig(mask_frames=1, boxes_every=2))
    samples = len(list(source.samples()))
    halves = sum(partly.scenes[video].frames // 2 for video, _ in partly.samples())
    assert source.bought["mask"] == samples and source.bought["points"] == 0
    assert halves - samples <= source.bought["boxes"] <= halves, "an empty box is none"
    everything = Annotations(partly, partly.samples())
    assert [len(list(everything.samples())) for _ in range(2)] == [samples] * 2
    shown = sum(
        bool(frame.masks[int(name)].any())
        for video, name in partly.samples()
        for frame in partly.drawn[video]
    )
    assert everything.bought == {"mask": shown}


def test_masks_are_bought_evenly_at_random_or_where_the_least_is_known(
    scenes: list[Scene],
) -> None:
    partly = Partly(scenes, EVERY, set())
    length = partly.scenes["v0"].frames
    shown = [t for t in range(length) if partly.drawn["v0"][t].masks[0].any()]

    def masked(**values: Any) -> list[int]:
        made = values.pop("made", None)
        seed = values.pop("seed", 0)
        budget = BudgetConfig(boxes_every=0, **values)
        found = bought(partly, budget, made=made, seed=seed)
        return [t for t, kind in enumerate(found) if kind == "m"]

    even = masked(mask_frames=2, mask_choice="even")
    assert even == [shown[len(shown) // 4], shown[len(shown) * 3 // 4]]
    drawn = [masked(mask_frames=1, mask_choice="random", seed=seed) for seed in range(8)]
    assert drawn[0] == masked(mask_frames=1, mask_choice="random", seed=0)
    assert len({tuple(item) for item in drawn}) > 2
    weights = np.linspace(1, 0.5, length).astype(np.float32)
    weights[shown[1]] = 0.1
    run = Videos(scenes)
    run.weights["v0", "0"] = weights
    least = masked(mask_frames=2, mask_choice="weight", made=PseudoMasks(run))
    assert least == [shown[1], shown[-1]]
    assert masked(mask_frames=99) == shown
    with pytest.raises(ValueError, match="needs pseudo-masks without any"):
        masked(mask_choice="weight")


def test_frames_that_are_not_bought_may_keep_their_pseudo_masks(scenes: list[Scene]) -> None:
    partly, made = Partly(scenes, EVERY, set()), Videos(scenes)
    made.weights["v0", "0"][1] = 0.25
    made.weights["v0", "0"][2] = 0
    source = Annotations(
        partly,
        partly.samples(),
        BudgetConfig(boxes_every=0, others="pseudo_masks"),
        made=PseudoMasks(made),
    )
    found = source.frames("v0", "0", [0, 1, 2, 3])
    assert [(item.kind, item.weight) for item in found] == [
        ("mask", 1),
        ("mask", 0.25),
        ("unknown", 0),
        ("mask", 1),
    ]
    known = next(iter(source.samples()))
    assert known.anchor.tolist() == [True] + [False] * (len(known.anchor) - 1)


def test_a_target_that_the_annotation_does_not_show_is_absent(scenes: list[Scene]) -> None:
    class Empty(Videos):
        def truth(self, *_: object) -> NDArray[np.bool_]:
            return np.zeros((4, 4), np.bool_)

    empty = Empty(scenes)
    assert Annotations(empty, empty.samples()).frames("v0", "0", [1]) == [ABSENT]
    hidden = Partly(scenes, set(), {0})
    hidden.drawn["v0"][0].masks[0][:] = False
    assert Annotations(hidden, hidden.samples()).frames("v0", "0", [0, 1]) == [ABSENT, UNKNOWN]


def test_a_video_whose_annotation_is_broken_is_left_out_whole_and_named(
    scenes: list[Scene], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Videos):
        def truth(self, video: VideoRef, expression: Expression, index: FrameIndex) -> Any:
            if (video.id, expression.key.expression, index) == ("v0", "1", 2):
                raise InputError("v0/00002.png", "truncated", "an index mask", "restore it")
            return super().truth(video, expression, index)

    broken = Broken(scenes)
    found = list(Annotations(broken, broken.samples()).samples())
    assert [(item.video, item.expression) for item in found] == [("v1", "0"), ("v1", "1")]
    assert "left out of training: v0/00002.png: truncated" in caplog.text


def test_a_click_is_farthest_from_the_outline() -> None:
    mask = np.zeros((9, 12), np.bool_)
    mask[2:9, 3:10] = True
    assert clicked_point(mask).tolist() == [[6.5, 5.5]]
    mask[:] = False
    mask[4, 7] = True
    assert clicked_point(mask).tolist() == [[7.5, 4.5]]
