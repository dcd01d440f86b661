"""The student ``grounded`` over a stand-in that knows where things are."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import GroundConfig, GroundedConfig, TrackConfig
from pipeline.plural import MANY
from stages.common.instances import Instances
from stages.ground.instances import QueryProposer
from stages.student.contract import StepSize
from stages.student.data.clips import Clip
from stages.student.data.supervision import ABSENT, UNKNOWN, FrameSupervision, of_boxes, of_mask
from stages.student.grounded.student import GroundedStudent, further_targets, said_of

SIZE = (32, 48)
FRAMES = 4
TEXTS = ("the left one", "the right one", "it moves", "a star")
BOTH = "the two squares"


class TwoSquares:
    """Two squares, a still one on the left and one on the right that moves down. To the grounder,
    they are alike, and fit every sentence alike but the last, which fits nothing."""

    channels, embedding, levels, together = 16, 8, 1, 4

    def __init__(self) -> None:
        self.asked: list[list[Sequence[str]]] = []

    def look(
        self, images: Tensor, groups: Sequence[Sequence[str]]
    ) -> tuple[Sequence[Tensor], list[Instances]]:
        assert all(len(texts) <= self.together for texts in groups)
        self.asked.append(list(groups))
        frames = len(images)
        maps = F.avg_pool2d(images.permute(0, 3, 1, 2).float() / 255, 8).mean(1, keepdim=True)
        y = torch.stack([torch.full((frames,), 0.5), down(frames)], 1)
        x = torch.tensor([0.25, 0.75]).expand(frames, 2)
        boxes = torch.stack([x, y, torch.full_like(x, 1 / 6), torch.full_like(x, 1 / 4)], -1)
        features = torch.eye(2, self.channels).expand(frames, 2, -1)
        halves = images.float().mean(-1).unflatten(2, (2, -1)).amax((1, 3))
        there = (halves > 100).float()
        return [maps.expand(-1, self.channels, -1, -1)], [
            Instances(
                features,
                boxes,
                torch.tensor([0.05 if text == TEXTS[-1] else 0.5 for text in texts])[:, None, None]
                * there,
                torch.eye(16)[[(*TEXTS, BOTH).index(text) for text in texts]],
                torch.eye(8)[[(*TEXTS, BOTH).index(text) for text in texts]],
            )
            for texts in groups
        ]


def down(frames: int) -> Tensor:
    return (8 + 4 * torch.arange(frames)) / SIZE[0]


def mask_of(right: bool, frame: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    y = 8 + 4 * frame if right else 16
    x = 36 if right else 12
    mask[y - 4 : y + 4, x - 4 : x + 4] = True
    return mask


def images() -> tuple[np.ndarray, ...]:
    shown = []
    for frame in range(FRAMES):
        image = np.full((*SIZE, 3), 30, np.uint8)
        image[mask_of(False, frame) | mask_of(True, frame)] = 220
        shown.append(image)
    return tuple(shown)


def clips(**kinds: Sequence[FrameSupervision]) -> list[Clip]:
    shown = images()
    known = {right: [of_mask(mask_of(right, t)) for t in range(FRAMES)] for right in (False, True)}
    return [
        Clip(shown, "the left one", tuple(kinds.get("left", known[False]))),
        Clip(shown, "the right one", tuple(kinds.get("right", known[True]))),
        Clip(shown, "it moves", tuple(kinds.get("moves", known[True]))),
        Clip(shown, "a star", (ABSENT,) * FRAMES),
    ]


def student(**options: Any) -> GroundedStudent:
    torch.manual_seed(0)
    config = GroundedConfig(**options)
    return GroundedStudent(TwoSquares(), config, TrackConfig(), channels=16, short_side=32)


def step_of(several: Sequence[Clip]) -> StepSize:
    return StepSize(len(several), float(sum(clip.weight.sum() for clip in several)) or 1.0)


def train(model: GroundedStudent, several: Sequence[Clip], steps: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.stack(list(model.train()(several, step_of(several), 0).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


def iou(logits: Tensor, right: bool) -> list[float]:
    """Of each frame, on the grid of the logits."""
    values = []
    for frame in range(FRAMES):
        found, truth = logits[frame] > 0, torch.from_numpy(mask_of(right, frame))[::2, ::2]
        values.append(float((found & truth).sum() / (found | truth).sum()))
    return values


def test_it_learns_which_instance_a_sentence_means_and_draws_it() -> None:
    model = student()
    train(model, clips(), 60)
    shown = torch.from_numpy(np.stack(images()))
    masks = model.predict(shown, TEXTS)
    assert masks.shape == (4, FRAMES, 16, 24)
    for row, right in enumerate((False, True, True)):
        assert min(iou(masks[row], right)) > 0.8, TEXTS[row]
    assert not (masks[3] > 0).any(), "an absent target has an empty mask"


def test_a_sentence_that_names_two_objects_gets_both() -> None:
    both = tuple(of_mask(mask_of(False, t) | mask_of(True, t)) for t in range(FRAMES))
    model = student()
    train(model, [*clips(), Clip(images(), BOTH, both)], 60)
    left, right, two = model.predict(torch.from_numpy(np.stack(images())), (*TEXTS[:2], BOTH))
    torch.testing.assert_close(two, torch.maximum(left, right))
    assert min(iou(left, False)) > 0.8 and min(iou(right, True)) > 0.8


def test_a_video_is_predicted_as_a_whole() -> None:
    model = student()
    train(model, clips(), 60)
    shown = torch.from_numpy(np.stack(images()))
    hidden = shown.clone()
    hidden[:, :, 24:] = 30  # the right one is not there
    windows = [shown, hidden, shown[:2]]
    found = list(model.predict_windows(iter(windows), TEXTS))
    assert [item.shape for item in found] == [(4, n, 16, 24) for n in (4, 4, 2)]
    assert min(iou(found[0][1], True)) > 0.8 and min(iou(found[1][0], False)) > 0.8
    assert not (found[1][1:] > 0).any(), "the left one does not stand in for the right one"
    for frame in range(FRAMES):
        alone = model.predict(hidden[frame : frame + 1], TEXTS)
        assert (alone[1] > 0).any(), "a frame by itself shows nothing better"


def test_absent_frames_teach_when_another_object_stands_in() -> None:
    model = student()
    train(model, clips(), 60)
    shown, gone = images(), list(images())
    for image in gone:
        image[:, 24:] = 30  # the right one is not there
    there = tuple(of_mask(mask_of(True, frame)) for frame in range(FRAMES))
    left = tuple(of_mask(mask_of(False, frame)) for frame in range(FRAMES)) * 2
    seen = (*shown, *gone)
    honest = [Clip(seen, TEXTS[1], (*there, *(ABSENT,) * FRAMES)), Clip(seen, TEXTS[0], left)]
    model.settle([honest])
    assert 0 < float(model.network.stand_in) < np.inf
    found = list(
        model.predict_windows(
            [torch.from_numpy(np.stack(gone)), torch.from_numpy(np.stack(shown))], TEXTS[:2]
        )
    )
    assert not (found[0][1] > 0).any() and (found[1][1] > 0).any() and (found[0][0] > 0).any()
    model.settle([[replace(honest[0], supervision=(*there, *left[:FRAMES]))]])
    assert float(model.network.stand_in) == np.inf, "no frame is called absent"


def test_a_prediction_that_is_given_up_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    make = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: opened.append(make()) or opened[-1])
    masks = student().eval().predict_windows([torch.from_numpy(np.stack(images()))] * 2, TEXTS)
    next(masks)
    masks.close()  # type: ignore[attr-defined]  # a generator
    assert [file.closed for file in opened] == [True]


def test_further_targets_are_likely_and_other_objects() -> None:
    boxes = torch.tensor([[0.2, 0.5, 0.2, 0.2], [0.21, 0.5, 0.2, 0.2], [0.7, 0.5, 0.2, 0.2],
                          [0.5, 0.1, 0.1, 0.1], [0.5, 0.9, 0.1, 0.1]])[None]  # fmt: skip
    likely = torch.tensor([0.4, 0.3, 0.15, 0.11, 0.02, 0.02])
    chance = likely.expand(3, 1, -1)
    found = further_targets(chance, boxes, [1, 2, MANY]).tolist()
    assert found == [[1, 0, 2], [2, 0, 2], [2, 0, 3]]


def test_an_untrained_student_chooses_what_the_grounder_does() -> None:
    model = student().eval()
    found = TwoSquares().look(torch.from_numpy(np.stack(images())), [TEXTS])[1][0]
    scores = torch.rand(found.scores.shape, generator=torch.Generator().manual_seed(1))
    scores = scores[:, :1].expand_as(scores)  # the same in all frames
    logits = model.network.chooser(replace(found, scores=scores), torch.zeros(len(scores), 5))
    assert torch.equal(logits[..., :-1].argmax(-1), scores.argmax(-1))


def test_boxes_teach_too() -> None:
    boxed = [of_boxes(np.array([[32, y - 4, 40, y + 4]], np.float32)) for y in (8, 12, 16, 20)]
    model = student()
    train(model, clips(right=boxed, moves=boxed), 60)
    masks = model.predict(torch.from_numpy(np.stack(images())), TEXTS)
    assert min(iou(masks[1], True)) > 0.5


def test_unknown_frames_and_weights() -> None:
    model = student()
    unknown = clips(**dict.fromkeys(("left", "right", "moves"), [UNKNOWN] * FRAMES))[:3]
    assert all(value.item() == 0 for value in model(unknown, step_of(unknown), 0).values())
    whole, halves = clips(), []
    for clip in whole:
        light = tuple(replace(item, weight=0.5) for item in clip.supervision)
        halves.append(replace(clip, supervision=light))
    found, lighter = (model(several, step_of(whole), 0) for several in (whole, halves))
    for name, value in found.items():
        assert lighter[name].item() == pytest.approx(value.item() / 2, rel=1e-5)


def test_a_step_in_parts_is_the_whole_step() -> None:
    model = student()
    several = [*clips(), *clips(left=[ABSENT] * FRAMES)]
    step = step_of(several)
    whole = model(several, step, 0)
    parts = [model(part, step, 0) for part in (several[:4], several[4:])]
    for name, value in whole.items():
        assert value.item() == pytest.approx(sum(part[name].item() for part in parts), rel=1e-5)


def test_sentences_share_passes_and_frames_are_encoded_once() -> None:
    model = student()
    several = [
        replace(clip, positives=((TEXTS[0], 0.5),), negatives=(TEXTS[2],)) for clip in clips()[:3]
    ]
    model(several, step_of(several), 0)
    proposer: Any = model._proposer
    (groups,) = proposer.asked
    assert [len(group) for group in groups] == [4, 4, 1]


def test_negatives_and_sentences_of_others_are_false_of_the_target() -> None:
    clip = replace(clips()[0], positives=(("b", 0.5),), negatives=("c",), elsewhere=("d",))
    said = [(item.text, item.clip, item.true, item.weight) for item in said_of([clip])]
    assert said == [
        ("the left one", 0, True, 1.0),
        ("b", 0, True, 0.5),
        ("c", 0, False, 1.0),
        ("d", 0, False, 1.0),
    ]


def test_the_grounders_instances_are_those_of_its_pass(small_dino: Any) -> None:
    config = GroundConfig(short_side=64, long_side=128, batch_pairs=2, joint=4)
    shown = torch.randint(0, 255, (3, 48, 64, 3), dtype=torch.uint8)
    texts = ["a red star", "the blue circle that moves", ""]
    proposer = QueryProposer(small_dino, config, 5)
    try:
        maps, (found,) = proposer.look(shown, [texts])
        assert len(maps) == proposer.levels and maps[0].shape[:2] == (3, proposer.channels)
        assert found.features.shape == (3, 5, proposer.channels) and found.boxes.shape == (3, 5, 4)
        assert found.scores.shape == (3, 3, 5) and found.sentences.shape == (3, proposer.channels)
        assert found.words.shape == (3, proposer.embedding)
        for empty in (found.scores[2], found.sentences[2], found.words[2]):
            assert not empty.any(), "a sentence without words fits nothing"
        best = found.scores.amax(0)
        assert (best[:, :-1] >= best[:, 1:]).all(), "those that fit best come first"
        alone = proposer.look(shown[1:2], [texts])[1][0]
        torch.testing.assert_close(alone.boxes[0], found.boxes[1], atol=1e-4, rtol=1e-3)
        assert not any(value.requires_grad for value in small_dino.parameters())
    finally:
        small_dino.requires_grad_(True)
