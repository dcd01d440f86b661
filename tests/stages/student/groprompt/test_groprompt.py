"""The student GroPrompt over a stand-in that learns a box a word, and over the demo models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from pipeline.config import GroPromptConfig, GroundConfig, SegmentConfig
from stages.ground.proposer import DecoderProposer
from stages.segment.prompter import BoxPrompter
from stages.student.contract import StepSize
from stages.student.data.clips import Clip
from stages.student.data.supervision import ABSENT, UNKNOWN, FrameSupervision, of_boxes, of_mask
from stages.student.groprompt.student import (
    GroPrompt,
    best_boxes,
    nearest_targets,
    of_other_objects,
)

LEFT, RIGHT = (4.0, 8.0, 16.0, 24.0), (30.0, 8.0, 42.0, 20.0)
SIZE = (32, 48)


class BoxAWord(nn.Module):
    """Gives each known sentence a box of its own, the same in every frame."""

    channels = 8
    texts = ("the left thing", "the right thing", "it")

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Embedding(len(self.texts), 4)
        self.score = 0.9
        self.encoded: list[int] = []

    def propose(
        self, images: Tensor, rows: Sequence[int], texts: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        assert len(rows) == len(texts) and max(rows) < len(images)
        self.encoded.append(len(images))
        which = torch.tensor([self.texts.index(text) for text in texts])
        other = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(len(texts), 4)
        boxes = torch.stack([self.decoder(which).sigmoid(), other], 1)
        return boxes, torch.tensor([self.score, 0.1]).expand(len(texts), 2)

    def sentences(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(8)[[self.texts.index(text) for text in texts]]


class Corners:
    """Prompts that are the corners; masks that are the boxes."""

    channels = 8

    def encode(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2)[:, :1, ::8, ::8].float().repeat(1, 8, 1, 1) / 255

    def prompts(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        return box_convert(boxes, "cxcywh", "xyxy").unflatten(1, (2, 2)).repeat(1, 1, 4)

    def masks(
        self, features: Tensor, rows: Sequence[int], boxes: Tensor, size: tuple[int, int]
    ) -> Tensor:
        height, width = size
        x0, y0, x1, y1 = (box_convert(boxes, "cxcywh", "xyxy").T[..., None, None]).unbind(0)
        x, y = (torch.arange(width) + 0.5) / width, ((torch.arange(height) + 0.5) / height)[:, None]
        return torch.where((x >= x0) & (x < x1) & (y >= y0) & (y < y1), 5.0, -5.0)


def student(**options: Any) -> GroPrompt:
    torch.manual_seed(0)
    return GroPrompt(BoxAWord(), Corners(), GroPromptConfig(**options))


def boxed(*boxes: tuple[float, ...]) -> FrameSupervision:
    return of_boxes(np.array(boxes, np.float32).reshape(-1, 4))


def pair(frames: int = 2, **kinds: FrameSupervision) -> list[Clip]:
    """Two sentences of two things on the same frames."""
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 255, (*SIZE, 3), np.uint8) for _ in range(frames))
    left, right = kinds.get("left", boxed(LEFT)), kinds.get("right", boxed(RIGHT))
    return [
        Clip(images, "the left thing", (left,) * frames),
        Clip(images, "the right thing", (right,) * frames),
    ]


def step_of(clips: Sequence[Clip]) -> StepSize:
    return StepSize(len(clips), float(sum(clip.weight.sum() for clip in clips)) or 1.0)


def train(model: GroPrompt, clips: list[Clip], steps: int) -> None:
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.stack(list(model(clips, step_of(clips), 0).values())).sum().backward()
        optimiser.step()


def test_boxes_teach_where_sentences_are_and_prediction_is_their_masks() -> None:
    model = student().train()
    train(model, pair(), 150)
    logits = model.eval().predict(torch.zeros(3, *SIZE, 3, dtype=torch.uint8), BoxAWord.texts[:2])
    assert logits.shape == (2, 3, *SIZE)
    for row, box in enumerate((LEFT, RIGHT)):
        truth = torch.zeros(SIZE, dtype=torch.bool)
        truth[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
        for mask in logits[row] > 0:
            assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_masks_teach_as_their_boxes_do() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[8:24, 4:16] = True
    by_mask, by_box = (
        student()(clips, step_of(clips), 0)
        for clips in (pair(left=of_mask(mask)), pair(left=boxed(LEFT)))
    )
    assert by_mask.keys() == by_box.keys() == {"box", "score", "text contrast", "modal contrast"}
    for name, value in by_mask.items():
        torch.testing.assert_close(value, by_box[name])


@pytest.mark.parametrize("kind", [ABSENT, UNKNOWN])
def test_frames_without_a_box_teach_no_box(kind: FrameSupervision) -> None:
    model, clips = student(), pair(left=kind, right=kind)
    losses = model(clips, step_of(clips), 0)
    assert (losses.pop("score").item() > 0) == (kind is ABSENT)
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.item() == 0 for value in losses.values())
    assert all(not weight.grad.any() for weight in model.parameters() if weight.grad is not None)


def test_the_parts_of_a_step_add_up_to_it() -> None:
    model = student()
    clips = [*pair(), *pair(3, left=of_mask(np.ones(SIZE, np.bool_), 0.5))]
    step = step_of(clips)
    whole = model(clips, step, 0)
    parts = [model(clips[:2], step, 0), model(clips[2:], step, 0)]
    for name, value in whole.items():
        torch.testing.assert_close(value, parts[0][name] + parts[1][name])


def test_a_draws_frames_are_encoded_once_for_its_sentences() -> None:
    model = student()
    clips = pair(3)
    model(clips, step_of(clips), 0)
    assert model._proposer.encoded == [3]  # type: ignore[attr-defined]


def test_terms_of_weight_0_are_left_out() -> None:
    model, clips = student(text_weight=0, modal_weight=0, score_weight=0), pair()
    assert model(clips, step_of(clips), 0).keys() == {"box"}


def test_what_scores_low_is_absent() -> None:
    model = student(absent_below=0.5).eval()
    images = torch.zeros(1, *SIZE, 3, dtype=torch.uint8)
    assert (model.predict(images, ["it"]) > 0).any()
    model._proposer.score = 0.4  # type: ignore[attr-defined]
    assert not (model.predict(images, ["it"]) > 0).any()


def test_of_several_true_boxes_the_nearest_one_counts() -> None:
    clips = pair(1, left=boxed(LEFT, RIGHT))
    found = np.array([[[0.7, 0.4, 0.2, 0.3]], [[0.7, 0.4, 0.2, 0.3]]], np.float32)
    truth, weight = nearest_targets(clips, found)
    np.testing.assert_allclose(truth[0, 0], [0.75, 14 / 32, 0.25, 12 / 32])
    np.testing.assert_array_equal(truth[0], truth[1])
    np.testing.assert_array_equal(weight, 1)


@pytest.mark.parametrize("channels", [8, 12])
def test_the_sentence_of_modalcon_is_frozen(channels: int) -> None:
    proposer = BoxAWord()
    proposer.channels = channels
    given = torch.randn(3, channels, requires_grad=True)
    proposer.sentences = lambda texts: given[[proposer.texts.index(text) for text in texts]]  # type: ignore[method-assign]
    model = GroPrompt(proposer, Corners(), GroPromptConfig(text_weight=0.0, modal_weight=1.0))
    clips = pair()
    model(clips, step_of(clips), 0)["modal contrast"].backward()
    assert given.grad is None
    assert not [name for name, value in model.sentence.named_parameters() if value.requires_grad]
    assert model.look.in_proj_weight.grad is not None, "what prompts see is trained"
    for text in proposer.texts:
        kept = model.sentence(proposer.sentences([text]))
        assert kept.shape == (1, 8) and kept.norm() > 0


def test_sentences_of_one_object_are_not_told_apart() -> None:
    here, there = [0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]
    boxes = np.array([[here, here], [here, here], [there, here], [there, there]], np.float32)
    known = np.ones((4, 2), np.bool_)
    known[3, 1] = False
    apart = of_other_objects(boxes, known)
    assert not apart[0, 1].any(), "the same box in both frames"
    assert not apart[0, 2].any(), "they meet in the second frame"
    assert apart[0, 3].tolist() == [True, False], "and nothing is known of the second"
    np.testing.assert_array_equal(apart, apart.transpose(1, 0, 2))


# Over real models.


@pytest.fixture
def whole(small_dino: Any, small_sam: Any) -> GroPrompt:
    torch.manual_seed(0)
    return GroPrompt(
        DecoderProposer(small_dino, GroundConfig(short_side=64, long_side=96, batch_pairs=3)),
        BoxPrompter(small_sam, SegmentConfig()),
        GroPromptConfig(),
    )


def test_the_decoder_learns_and_nothing_else_of_grounder_and_segmenter(
    whole: GroPrompt, small_dino: Any, small_sam: Any
) -> None:
    frozen = {
        name: value.clone()
        for model in (small_dino, small_sam)
        for name, value in model.state_dict().items()
    }
    before = {name: value.detach().clone() for name, value in whole.state_dict().items()}
    clips = pair()
    optimiser = torch.optim.SGD([w for w in whole.parameters() if w.requires_grad], 0.1)
    try:
        torch.stack(list(whole.train()(clips, step_of(clips), 0).values())).sum().backward()
        optimiser.step()
        moved = {
            name for name, value in whole.state_dict().items() if (value != before[name]).any()
        }
        assert {name.split(".")[0] for name in moved} == {"decoder", "look"}
        learnt = ("transformer.decoder.", "bbox_embed.")
        for model in (small_dino, small_sam):
            for name, value in model.state_dict().items():
                assert name.startswith(learnt) or torch.equal(value, frozen[name]), name
    finally:
        whole.load_state_dict(before)
        small_dino.requires_grad_(True)
        small_sam.requires_grad_(True)


def test_the_best_box_is_the_grounders(whole: GroPrompt, small_dino: Any) -> None:
    from stages.ground.grounder import GroundingDinoGrounder

    config = GroundConfig(short_side=64, long_side=96, joint=1)
    texts = ["the red circle", "a star"]
    images = pair()[0].images
    grounder = GroundingDinoGrounder(small_dino, config)
    expected = grounder.ground(grounder.embed(images), texts)
    with torch.no_grad():
        boxes, score = best_boxes(
            *whole._proposer.propose(
                torch.from_numpy(np.stack(images)), [0, 1, 0, 1], [texts[0]] * 2 + [texts[1]] * 2
            )
        )
    pixels = box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1) * torch.tensor([48, 32, 48, 32])
    for frame in range(2):
        for row in range(2):
            found = expected[frame]
            first = np.flatnonzero((found.text == row) & (found.rank == 0))[0]
            place = 2 * row + frame
            np.testing.assert_allclose(pixels[place], found.xyxy[first], atol=1e-2)
            assert float(score[place]) == pytest.approx(float(found.score[first]), abs=1e-5)


def test_masks_are_the_segmenters(whole: GroPrompt, small_sam: Any) -> None:
    from stages.common.mask_resolution import enlarge
    from stages.segment.segmenter import SamSegmenter

    images = pair()[0].images
    segmenter = SamSegmenter(small_sam, SegmentConfig())
    box = np.array([LEFT], np.float32)
    expected = segmenter.decode(segmenter.embed(images), [box, box])
    shown = torch.from_numpy(np.stack(images))
    centred = box_convert(torch.from_numpy(box), "xyxy", "cxcywh") / torch.tensor([48, 32, 48, 32])
    prompter = whole._prompter
    found = prompter.masks(prompter.encode(shown), [0, 1], centred.expand(2, 4), SIZE)
    for frame in range(2):
        logits = enlarge(torch.from_numpy(expected[frame].logits).float(), *SIZE)[0]
        np.testing.assert_allclose(found[frame], logits, atol=2e-2)
