"""Models on a device that is not the CPU: the same results, and few waits for the device.

Frames are resized there in float32, and come out one level of 256 apart here and there: so results
are the same but for what that changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.config import RunConfig, config_from
from pipeline.geometry import masks_to_boxes
from pipeline.shapes.render import render
from pipeline.types import (
    Augmentation,
    Boxes,
    Candidates,
    Expression,
    FrameIndex,
    Negative,
    Positive,
    Provenance,
    SampleKey,
    VideoRef,
)
from tests.fakes import elsewhere
from tests.fakes.student import Videos, two_scenes

SLOW = pytest.mark.slow
DEVICES = ("cpu", elsewhere.DEVICE)
TEXTS = tuple(
    f"the {colour} {shape}"
    for colour in ("red", "small green")
    for shape in ("circle", "square", "star")
)

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def there() -> Iterator[Call]:
    """Calls a function in a process that has the device."""
    with elsewhere.in_a_process_of_its_own() as call:
        yield call


def frames(count: int = 2) -> list[NDArray[np.uint8]]:
    return [render(two_scenes()[0], time).image for time in range(count)]


def config(**sections: Mapping[str, Any]) -> RunConfig:
    return config_from(sections, "the test")


def forgets_to_move() -> str:
    with pytest.raises(RuntimeError, match="expected all tensors on one device") as raised:
        torch.ones(3, device=elsewhere.DEVICE) + torch.ones(3)
    return str(raised.value)


def reads_too_early() -> tuple[bool, list[float]]:
    arrived = torch.zeros(2)
    arrived.copy_(torch.ones(2, device=elsewhere.DEVICE), non_blocking=True)
    early = bool(arrived.isnan().all())
    torch.accelerator.synchronize()
    return early, arrived.tolist()


def resizes_bytes() -> str:
    bytes_there = torch.zeros(1, 3, 8, 8, dtype=torch.uint8, device=elsewhere.DEVICE)
    with pytest.raises(RuntimeError, match="not implemented") as raised:
        torch.nn.functional.interpolate(bytes_there, (4, 4), mode="bilinear", antialias=True)
    return str(raised.value)


@pytest.mark.slow
def test_the_device_of_these_tests_has_a_gpus_rules(there: Call) -> None:
    assert "'Byte'" in there(resizes_bytes)
    assert "[3] on elsewhere:0, [3] on cpu" in there(forgets_to_move)
    assert there(reads_too_early) == (True, [1.0, 1.0])


def resized() -> list[NDArray[np.float32]]:
    from stages.common.preprocessing import resize, to_device

    return [
        resize(to_device(frames(), torch.device(device)), (96, 170)).float().cpu().numpy()
        for device in DEVICES
    ]


def test_frames_are_resized_as_on_the_cpu_to_one_of_256_levels(there: Call) -> None:
    one, other = there(resized)
    assert np.abs(one - other).max() <= 1
    assert (one == other).mean() > 0.75
    assert (other == other.round()).all()


def waits_for_frames() -> tuple[int, bool]:
    from stages.common.preprocessing import normalise_frames, to_device

    here, there = (
        [normalise_frames(to_device(frames(), torch.device(device)), 96, 170) for _ in range(2)][1]
        for device in DEVICES
    )
    shown = to_device(frames(), torch.device(elsewhere.DEVICE))
    elsewhere.waits.clear()
    normalise_frames(shown, 96, 170)
    return elsewhere.waits.total(), bool((there.cpu() - here).abs().max() < 2e-2)


def test_frames_that_are_there_are_normalised_without_a_wait(there: Call) -> None:
    assert there(waits_for_frames) == (0, True)


def grounded(**options: Any) -> dict[str, tuple[list[Boxes], int]]:
    """Device -> boxes, and how often they were waited for once texts were known."""
    from stages.ground.grounder import load_grounder

    found = {}
    for device in DEVICES:
        section = config(ground={"short_side": 96} | options).ground
        made = load_grounder(section, torch.device(device))
        embedding = made.embed(frames())
        made.ground(embedding, TEXTS)
        elsewhere.waits.clear()
        found[device] = made.ground(embedding, TEXTS), elsewhere.waits["copy"]
    return found


def assert_same_boxes(found: dict[str, tuple[list[Boxes], int]]) -> None:
    for one, other in zip(*(boxes for boxes, _ in found.values()), strict=True):
        assert len(one) >= len(TEXTS)
        np.testing.assert_array_equal(one.text, other.text)
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.2)
        np.testing.assert_allclose(one.score, other.score, atol=5e-3)


@SLOW
def test_boxes_of_the_packages_attention_are_those_of_the_cpu(there: Call) -> None:
    assert_same_boxes(there(grounded, attention="explicit"))


def grounded_in_passes() -> list[dict[str, tuple[list[Boxes], int]]]:
    """With one pass of the transformer, and with a pass a pair."""
    return [grounded(joint=3, batch_pairs=pairs) for pairs in (len(TEXTS), 1)]


@pytest.mark.slow
def test_boxes_are_those_of_the_cpu_and_of_all_passes_come_back_together(there: Call) -> None:
    """What is left is one copy that the package's transformer makes a pass, of the sizes of its
    maps, and the two of boxes and scores."""
    for found, waits in zip(there(grounded_in_passes), (1 + 2, 4 + 2), strict=True):
        assert_same_boxes(found)
        assert found[elsewhere.DEVICE][1] == waits


def segmented(batch_pairs: int) -> dict[str, tuple[list[Candidates], int]]:
    from stages.segment.segmenter import load_segmenter

    rng = np.random.default_rng(2)
    low = rng.uniform(0, 60, (2, 5, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 60, (2, 5, 2))], -1).astype(np.float32)
    found = {}
    for device in DEVICES:
        section = config(segment={"batch_pairs": batch_pairs}).segment
        made = load_segmenter(section, torch.device(device))
        embedding = made.embed(frames())
        elsewhere.waits.clear()
        found[device] = made.decode(embedding, list(boxes)), elsewhere.waits.total()
    return found


@pytest.mark.parametrize("batch_pairs", [3, pytest.param(32, marks=SLOW)])
def test_masks_are_those_of_the_cpu_and_waited_for_once(there: Call, batch_pairs: int) -> None:
    found = there(segmented, batch_pairs)
    (ours, _), (theirs, waits) = found.values()
    assert waits == 3, "frames and boxes go there, and all masks come back"
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.logits) == 5
        inside = one.logits > 0
        assert inside.any() and not inside.all()
        assert np.mean(inside == (other.logits > 0)) > 0.999
        np.testing.assert_allclose(one.logits, other.logits, atol=1.5)
        np.testing.assert_allclose(one.predicted_iou, other.predicted_iou, atol=5e-3)
        np.testing.assert_allclose(one.stability, other.stability, atol=5e-2)


def written() -> list[list[Any]]:
    """The beginnings of two answers about the same frames."""
    from pipeline.ports import CaptionRequest
    from stages.augment import load_captioner

    videos = Videos(two_scenes()[:1])
    video, asked = videos.video("v0"), videos.expressions("v0")
    options = {"source": "model", "checkpoint": "demo:captioner", "max_new_tokens": 24}
    section, images, found = config(augment=options).augment, frames(), []
    for device in DEVICES:
        captioner: Any = load_captioner(section, torch.device(device), 0, None)
        requests = [CaptionRequest(video, images, expression) for expression in asked]
        found.append(captioner.answers(requests, frames=captioner.shared_frames(requests)))
    return found


@pytest.mark.slow
def test_the_captioner_writes_what_it_writes_on_the_cpu(there: Call) -> None:
    ours, theirs = there(written)
    assert len(ours) == 2
    assert [answer.tokens for answer in ours] == [answer.tokens for answer in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.log_probability, other.log_probability, atol=1e-3)


STUDENTS: dict[str, dict[str, Any]] = {
    "masks": {"simrvos": {"blcl": True, "lgcfs": True, "mil": True}, "supervision": "masks"},
    "boxes": {"simrvos": {"mil": True}, "supervision": "boxes"},
    "flow": {"supervision": "flow"},
    "language as query": {"supervision": "flow", "simrvos": {"fusion": "language"}},
    "wsrvos": {"model": "wsrvos", "supervision": "masks"},
    "groprompt": {"model": "groprompt", "supervision": "boxes"},
    "grounded": {"model": "grounded", "supervision": "masks"},
}
QUICK = ("masks", "wsrvos")


class Boxed(Videos):
    """With the truth's boxes."""

    def boxes(self, video: VideoRef, expression: Expression, index: FrameIndex) -> Any:
        return masks_to_boxes(self.truth(video, expression, index)[None])


def losses(name: str) -> list[tuple[list[dict[str, float]], list[NDArray[np.bool_]]]]:
    """Of each device: the terms of two steps, and what the student then predicts."""
    from flows.training.build import build_student, supervision_of
    from stages.student.data.clips import Clips, Shape
    from stages.student.data.optical_flow import OpticalFlow
    from stages.student.predict import predict_video
    from stages.student.training.train import Trainer

    videos: Any = Boxed(two_scenes()[:1])
    size = {"steps": 2, "clips_per_step": 1, "frames_per_clip": 3, "short_side": 96}
    run = config(student=size | STUDENTS[name], ground={"short_side": 96})
    text = run.student.model == "wsrvos"
    found = []
    for device in map(torch.device, DEVICES):
        torch.manual_seed(0)
        source: Any = (
            OpticalFlow(videos, 5)
            if run.student.supervision == "flow"
            else supervision_of(run.student, videos, videos)
        )
        shape = Shape(3, 2, int(text), int(text), fill=name == "masks")
        clips = Clips(videos, source, shape, sentences=sentences if text else None)
        trainer = Trainer(build_student(run, device), clips, run.student, device=device)
        steps = [dict(step.terms) for step in trainer.steps()]
        trainer.restore(trainer.state())
        with trainer.averaged() as student:
            masks = predict_video(student, videos, videos.video("v0"), ["the red circle"], device)
            found.append((steps, [window.masks for window in masks]))
    return found


def sentences(video_id: str) -> dict[str, Augmentation]:
    return {
        str(row): Augmentation(
            SampleKey("shapes", "train", video_id, str(row)),
            (Positive("the thing in front", 1.0),),
            (Negative("the red star", "appearance"),),
            Provenance("", "", "", 0),
        )
        for row in range(2)
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else SLOW) for name in STUDENTS]
)
def test_a_student_learns_what_it_learns_on_the_cpu(there: Call, name: str) -> None:
    (ours, seen), (theirs, seen_there) = there(losses, name)
    assert len(ours) == 2
    assert np.mean(np.concatenate(seen, 1) == np.concatenate(seen_there, 1)) > 0.99
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert any(one.values())
        for term, value in one.items():
            assert other[term] == pytest.approx(value, rel=3e-2, abs=1e-3), term
