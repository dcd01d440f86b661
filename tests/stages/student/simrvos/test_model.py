"""SimRVOS: its equations literally, and what the frames of a clip teach it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import SimrvosConfig, SimrvosStudentConfig
from pipeline.shapes.scene import Scene
from stages.common.losses import mask_losses
from stages.student.contract import StepSize
from stages.student.data.clips import Clip
from stages.student.data.frames import distinct_frames, prepare_frames
from stages.student.data.supervision import UNKNOWN, FrameSupervision, of_mask
from stages.student.simrvos.model import (
    CrossAttention,
    FeaturePyramid,
    SimRVOS,
    sentence_of,
)
from stages.student.simrvos.student import SimRVOSStudent
from stages.student.weak.filters import with_coordinates
from tests.fakes.student import CHANNELS, TinyImages, TinyWords, Videos, tiny_model, two_scenes


def clip_loss(model: SimRVOS, clips: Sequence[Clip], config: SimrvosConfig) -> Tensor:
    weight = float(sum(clip.weight.sum() for clip in clips))
    terms = SimRVOSStudent(model, config)(clips, StepSize(len(clips), weight), 0)
    return torch.stack(list(terms.values())).sum()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return two_scenes()


def clip_of(videos: Videos, video: str, row: int, times: Sequence[int], text: str = "") -> Clip:
    drawn = [videos.drawn[video][time] for time in times]
    return Clip(
        tuple(item.image for item in drawn),
        text or f"the {videos.scenes[video].objects[row].name}",
        tuple(of_mask(item.masks[row]) for item in drawn),
    )


# Equations 1 to 5.


def linear(layer: nn.Linear, x: Sequence[float]) -> list[float]:
    return [
        float(sum(w * value for w, value in zip(row, x, strict=True)) + bias)
        for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    raised = [math.exp(value - top) for value in values]
    return [value / sum(raised) for value in raised]


@torch.no_grad()
def test_cross_attention_is_equations_1_and_2() -> None:
    torch.manual_seed(1)
    channels, layer = 4, CrossAttention(4)
    x, y = torch.randn(2, 3, channels), torch.randn(2, 5, channels)
    usable = torch.tensor([[True, True, False, True, False], [True] * 5])
    found = layer(x, y, usable)
    for n in range(2):
        kept = [j for j in range(5) if usable[n, j]]
        keys = [linear(layer.key, y[n, j].tolist()) for j in kept]
        values = [linear(layer.value, y[n, j].tolist()) for j in kept]
        for i in range(3):
            query = linear(layer.query, x[n, i].tolist())
            scores = [
                sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(channels)
                for key in keys
            ]
            share = softmax(scores)
            for c in range(channels):
                expected = float(x[n, i, c]) + sum(
                    share[j] * values[j][c] for j in range(len(kept))
                )
                assert float(found[n, i, c]) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(layer(x, y, None)[1], found[1])


@torch.no_grad()
def test_vision_as_query_leaves_the_words_as_they_are_and_language_the_frames() -> None:
    visual, words = torch.randn(1, CHANNELS, 4, 5), torch.randn(1, 3, CHANNELS)
    every = torch.ones(1, 3, dtype=torch.bool)
    frames_ask, words_ask = (
        SimRVOS(TinyImages(), TinyWords(), CHANNELS, fusion=fusion)
        for fusion in ("vision", "language")
    )
    found = [frames_ask.fuse(visual, said, every) for said in (words, words + 1)]
    assert torch.equal(found[0].words, words)
    assert not torch.allclose(found[0].visual, found[1].visual)
    found = [words_ask.fuse(seen, words, every) for seen in (visual, visual + 1)]
    assert not torch.allclose(found[0].words, found[1].words)
    assert torch.equal(words_ask.fuse(visual, words + 1, every).visual, found[0].visual)
    for model in (frames_ask, words_ask):
        assert model(torch.randn(1, 3, 32, 32), ["the star"]).shape == (1, 8, 8)


@torch.no_grad()
def test_the_dynamic_filters_are_equation_3() -> None:
    model = tiny_model()
    words, fused = torch.randn(2, 4, CHANNELS), torch.randn(2, 4, CHANNELS)
    usable = torch.tensor([[True, True, True, False], [True, False, False, False]])
    theta = model.dynamic_filters(fused, sentence_of(words, usable), usable)
    for n in range(2):
        kept = [i for i in range(4) if usable[n, i]]
        sentence = [sum(float(words[n, i, c]) for i in kept) / len(kept) for c in range(CHANNELS)]
        share = softmax([linear(model.word_weight, fused[n, i].tolist())[0] for i in kept])
        mixed = [
            sentence[c] + sum(share[j] * float(fused[n, i, c]) for j, i in enumerate(kept))
            for c in range(CHANNELS)
        ]
        inner = [max(0.0, value) for value in linear(model.filters[0], mixed)]
        expected = linear(model.filters[2], inner)
        np.testing.assert_allclose(theta[n].numpy(), expected, atol=1e-4)


@torch.no_grad()
def test_a_pooled_feature_of_the_encoder_is_the_sentence() -> None:
    class Pooled(TinyWords):
        def pooled(self, texts: Sequence[str]) -> Tensor:
            return torch.stack([torch.full((16,), float(len(text))) for text in texts])

    model, images = tiny_model(), torch.randn(3, 3, 32, 32)
    texts = ["a star", "the star", "a star"]
    plain = model.look(images, texts)
    words, usable = TinyWords()(texts)
    torch.testing.assert_close(plain.sentence, sentence_of(model.text_in(words), usable))
    object.__setattr__(model, "_text_encoder", Pooled())
    found = model.look(images, texts)
    expected = model.text_in(torch.stack([torch.full((16,), float(len(text))) for text in texts]))
    torch.testing.assert_close(found.sentence, expected)
    assert not torch.allclose(found.theta, plain.theta)


@torch.no_grad()
def test_the_pyramid_is_equation_4() -> None:
    torch.manual_seed(2)
    pyramid = FeaturePyramid((5, 7), 16)
    finest, finer, top = (
        torch.randn(2, 5, 12, 20),
        torch.randn(2, 7, 6, 10),
        torch.randn(2, 16, 3, 5),
    )
    found = pyramid(top, [finest, finer])
    for row, source in ((1, finer), (0, finest)):
        wide = torch.zeros(2, 16, *source.shape[2:])
        for y in range(source.shape[2]):
            for x in range(source.shape[3]):
                at_y = min(max((y + 0.5) / 2 - 0.5, 0), top.shape[2] - 1)
                at_x = min(max((x + 0.5) / 2 - 0.5, 0), top.shape[3] - 1)
                y0, x0 = int(at_y), int(at_x)
                y1, x1 = min(y0 + 1, top.shape[2] - 1), min(x0 + 1, top.shape[3] - 1)
                dy, dx = at_y - y0, at_x - x0
                wide[:, :, y, x] = (1 - dy) * (
                    (1 - dx) * top[:, :, y0, x0] + dx * top[:, :, y0, x1]
                ) + dy * ((1 - dx) * top[:, :, y1, x0] + dx * top[:, :, y1, x1])
        top = pyramid.smooth[row](pyramid.lateral[row](source) + wide)
    torch.testing.assert_close(found, top, rtol=1e-4, atol=1e-4)
    assert found.shape == (2, 16, 12, 20)


@torch.no_grad()
def test_a_mask_comes_from_the_features_coordinates_and_filters() -> None:
    found = tiny_model().look(torch.randn(2, 3, 32, 48), ["the red star", "a circle"])
    assert found.cells.shape == (2, CHANNELS + 2, 8, 12)
    assert torch.equal(found.cells[:, -2:], with_coordinates(found.cells[:, :-2])[:, -2:])
    assert torch.equal(found.logits, found.filters.masks(found.cells, found.theta))


@torch.no_grad()
def test_the_filters_of_a_frame_are_its_own() -> None:
    model = tiny_model().eval()
    images = torch.randn(3, 3, 32, 48)
    texts = ["the red star", "the small blue circle", "the red star"]
    together = model(images, texts)
    assert together.shape == (3, 8, 12)
    for row, text in enumerate(texts):
        alone = model(images[row : row + 1], [text])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)
    other = model(images[:1], [texts[1]])
    assert (other[0] - together[0]).abs().max() > 1e-4, "another sentence, another mask"


def test_the_text_encoder_is_frozen_and_asked_once_a_sentence() -> None:
    model = tiny_model()
    words: Any = model._text_encoder
    model(torch.randn(3, 3, 32, 48), ["a star", "a star", "a circle"])
    assert words.asked == ["a star", "a circle"]
    assert not any("text_encoder" in name for name in model.state_dict())


# The loss.


def literal_loss(logits: Tensor, target: Tensor, dice_weight: float, focal_weight: float) -> float:
    """Of one frame."""
    both = chance_sum = target_sum = focal = 0.0
    for value, wanted in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-value))
        both += p * wanted
        chance_sum += p
        target_sum += wanted
        right = p if wanted else 1 - p
        alpha = 0.25 if wanted else 0.75
        focal += -alpha * (1 - right) ** 2 * math.log(right)
    dice = 1 - (2 * both + 1) / (chance_sum + target_sum + 1)
    return dice_weight * dice + focal_weight * focal / logits.numel()


def test_the_mask_loss_is_equation_19() -> None:
    torch.manual_seed(3)
    logits, target = torch.randn(4, 5, 6), torch.rand(4, 5, 6) > 0.6
    target[2] = False
    for weights in ((5.0, 2.0), (1.0, 0.0), (0.0, 1.0)):
        found = mask_losses(logits, target, *weights).tolist()
        for row, value in enumerate(found):
            expected = literal_loss(logits[row], target[row], *weights)
            assert value == pytest.approx(expected, rel=1e-5)


def test_a_perfect_mask_costs_next_to_nothing() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[0, 2:5, 2:6] = True
    logits = torch.where(target, 30.0, -30.0)
    assert (mask_losses(logits, target, 5, 2) < 1e-4).all()
    assert (mask_losses(-logits, target, 5, 2) > 5).all()


def test_absent_frames_teach_background() -> None:
    logits = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(5), requires_grad=True)
    mask_losses(logits, torch.zeros(1, 6, 6) > 0, 5, 2).sum().backward()
    assert logits.grad is not None and (logits.grad > 0).all()


def test_the_loss_of_a_clip_leaves_unknown_frames_out(scenes: list[Scene]) -> None:
    videos, config = Videos(scenes), SimrvosStudentConfig(short_side=32)
    clip = clip_of(videos, "v0", 0, [0, 1])
    model = tiny_model()

    def loss(first: NDArray[np.bool_], second: FrameSupervision) -> Tensor:
        taught = Clip(clip.images, clip.text, (of_mask(first), second))
        return clip_loss(model, [taught], config).detach()

    unknown = loss(clip.mask[0], UNKNOWN)
    assert torch.equal(unknown, loss(clip.mask[0], of_mask(~clip.mask[1], 0.0)))
    assert unknown != loss(clip.mask[0], of_mask(clip.mask[1], 0.1))
    assert unknown != loss(~clip.mask[0], UNKNOWN)


def test_without_more_switched_on_the_loss_of_a_step_is_the_mask_loss(scenes: list[Scene]) -> None:
    videos, config, model = Videos(scenes), SimrvosStudentConfig(short_side=32), tiny_model()
    clip = clip_of(videos, "v0", 0, [0, 1, 2])
    weights = (1.0, 0.25, 0.5)
    taught = tuple(of_mask(mask, w) for mask, w in zip(clip.mask, weights, strict=True))
    found = clip_loss(model, [Clip(clip.images, clip.text, taught)], config)
    images = prepare_frames(torch.from_numpy(np.stack(clip.images)), 32)
    size = images.shape[2] // 2, images.shape[3] // 2
    logits = F.interpolate(
        model(images, [clip.text] * 3)[:, None], size, mode="bilinear", align_corners=False
    )[:, 0]
    shares = F.interpolate(torch.from_numpy(clip.mask)[:, None].float(), size, mode="area")[:, 0]
    each, weight = mask_losses(logits, shares > 0.5, 5.0, 2.0), torch.tensor(weights)
    assert torch.equal(found, (weight * each).sum() / weight.sum())


def test_clips_of_different_frame_sizes_share_a_step(scenes: list[Scene]) -> None:
    videos, config, model = Videos(scenes), SimrvosStudentConfig(short_side=32), tiny_model()
    wide = clip_of(videos, "v0", 0, [0, 1])
    high = Clip(
        tuple(np.ascontiguousarray(image.transpose(1, 0, 2)) for image in wide.images),
        wide.text,
        tuple(of_mask(mask.T) for mask in wide.mask),
    )
    alone = [float(clip_loss(model, [clip], config).detach()) for clip in (wide, high)]
    both = float(clip_loss(model, [wide, high], config).detach())
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_frames_that_clips_share_are_encoded_once_and_change_nothing(scenes: list[Scene]) -> None:
    videos, config = Videos(scenes), SimrvosStudentConfig(short_side=32)
    one, two = (clip_of(videos, "v0", row, [0, 1, 2]) for row in (0, 1))
    shared = Clip(one.images, two.text, two.supervision)
    images, rows, lengths = distinct_frames([one, shared, two])
    assert images.shape[0] == 6 and rows == [0, 1, 2, 0, 1, 2, 3, 4, 5] and lengths == [3, 3]
    model, seen = tiny_model(), []
    model.image_encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    together = clip_loss(model, [one, shared], config)
    assert seen == [3]
    torch.testing.assert_close(together, clip_loss(model, [one, two], config))


def test_the_parts_of_a_step_add_up_to_it(scenes: list[Scene]) -> None:
    videos, config = Videos(scenes), SimrvosStudentConfig(short_side=32)
    weak = clip_of(videos, "v0", 0, [0, 1])
    weak = Clip(weak.images, weak.text, tuple(of_mask(mask, 0.25) for mask in weak.mask))
    clips = [weak, clip_of(videos, "v1", 0, [1, 2, 3])]
    student, size = SimRVOSStudent(tiny_model(), config), StepSize(2, 3.5)
    whole = student(clips, size, 0)["segmentation"]
    parts = [student([clip], size, 0)["segmentation"] for clip in clips]
    torch.testing.assert_close(whole, parts[0] + parts[1])


def test_a_student_predicts_each_sentence_in_each_frame(scenes: list[Scene]) -> None:
    student = SimRVOSStudent(tiny_model(), SimrvosStudentConfig(short_side=32)).eval()
    images = torch.from_numpy(np.stack(clip_of(Videos(scenes), "v0", 0, [0, 1, 2]).images))
    texts = ["the red star", "a small circle"]
    with torch.no_grad():
        found = student.predict(images, texts)
        for row, text in enumerate(texts):
            alone = student.network(prepare_frames(images, 32), [text] * 3)
            torch.testing.assert_close(found[row], alone, rtol=1e-4, atol=1e-4)


def test_frames_are_resized_by_their_short_side_and_normalised() -> None:
    images = torch.full((2, 40, 80, 3), 124, dtype=torch.uint8)
    prepared = prepare_frames(images, 20)
    assert prepared.shape == (2, 3, 20, 40)
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        expected = (124 / 255 - mean) / std
        assert prepared[:, channel].mean() == pytest.approx(expected, abs=1e-4)
    assert prepare_frames(images[:, :, :20], 20).shape == (2, 3, 40, 20)
    assert prepare_frames(torch.zeros(1, 10, 200, 3, dtype=torch.uint8), 20).shape[3] == 80
