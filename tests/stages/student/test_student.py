"""The student: SimRVOS's equations literally, and what clips and weights teach."""

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

from pipeline.config import StudentConfig
from pipeline.errors import PseudoLabelError
from pipeline.geometry import masks_to_boxes
from pipeline.metrics import region_similarity
from pipeline.shapes.scene import Scene
from stages.student.clips import Clip, Clips, mirror_sentence
from stages.student.model import (
    DYNAMIC_CHANNELS,
    FOCAL_SCALE,
    CrossAttention,
    FeaturePyramid,
    SimRVOS,
    mask_loss,
)
from stages.student.supervision import UNKNOWN, Annotations, FrameSupervision, PseudoMasks, of_mask
from stages.student.train import (
    clip_loss,
    predict_video,
    prepare_frames,
    train,
)
from tests.fakes.student import CHANNELS, Videos, tiny_model, two_scenes

CPU = torch.device("cpu")


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
def test_the_dynamic_filters_are_equation_3() -> None:
    model = tiny_model()
    words, fused = torch.randn(2, 4, CHANNELS), torch.randn(2, 4, CHANNELS)
    usable = torch.tensor([[True, True, True, False], [True, False, False, False]])
    theta = model.dynamic_filters(fused, words, usable)
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
def test_the_mask_is_equation_5() -> None:
    model = tiny_model()
    height, width, inputs = 3, 4, CHANNELS + 2
    pyramid = torch.randn(2, CHANNELS, height, width)
    theta = torch.randn(2, inputs * DYNAMIC_CHANNELS + 2 * DYNAMIC_CHANNELS + 1)
    found = model.segment(pyramid, theta)
    assert found.shape == (2, height, width)
    for n in range(2):
        values = theta[n].tolist()
        first = values[: inputs * DYNAMIC_CHANNELS]
        rest = values[inputs * DYNAMIC_CHANNELS :]
        bias, second, last = rest[:DYNAMIC_CHANNELS], rest[DYNAMIC_CHANNELS:-1], rest[-1]
        for y in range(height):
            for x in range(width):
                cell = [
                    *pyramid[n, :, y, x].tolist(),
                    -1 + 2 * x / (width - 1),
                    -1 + 2 * y / (height - 1),
                ]
                inner = []
                for d in range(DYNAMIC_CHANNELS):
                    row = first[d * inputs : (d + 1) * inputs]
                    total = sum(w * value for w, value in zip(row, cell, strict=True))
                    inner.append(max(0.0, total / math.sqrt(inputs) + bias[d]))
                expected = sum(w * value for w, value in zip(second, inner, strict=True)) + last
                assert float(found[n, y, x]) == pytest.approx(expected, abs=1e-4)


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


def literal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, dice_weight: float, focal_weight: float
) -> float:
    total = 0.0
    for n in range(len(logits)):
        both = chance_sum = target_sum = focal = 0.0
        for value, wanted in zip(
            logits[n].flatten().tolist(), target[n].flatten().tolist(), strict=True
        ):
            p = 1 / (1 + math.exp(-value))
            both += p * wanted
            chance_sum += p
            target_sum += wanted
            right = p if wanted else 1 - p
            alpha = 0.25 if wanted else 0.75
            focal += -alpha * (1 - right) ** 2 * math.log(right)
        dice = 1 - (2 * both + 1) / (chance_sum + target_sum + 1)
        focal = focal / logits[n].numel() * FOCAL_SCALE
        total += float(weight[n]) * (dice_weight * dice + focal_weight * focal)
    return total / float(weight.sum())


def test_the_mask_loss_is_equation_19() -> None:
    torch.manual_seed(3)
    logits, target = torch.randn(4, 5, 6), torch.rand(4, 5, 6) > 0.6
    target[2] = False
    weight = torch.tensor([1.0, 0.3, 0.8, 0.0])
    for dice, focal in ((5.0, 2.0), (1.0, 0.0), (0.0, 1.0)):
        found = float(mask_loss(logits, target, weight, dice, focal))
        assert found == pytest.approx(literal_loss(logits, target, weight, dice, focal), rel=1e-5)


def test_a_perfect_mask_costs_next_to_nothing() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[0, 2:5, 2:6] = True
    logits = torch.where(target, 30.0, -30.0)
    assert float(mask_loss(logits, target, torch.ones(2), 5, 2)) < 1e-4
    assert float(mask_loss(-logits, target, torch.ones(2), 5, 2)) > 5


def test_unknown_frames_have_no_gradient_and_no_say() -> None:
    torch.manual_seed(4)
    logits = torch.randn(3, 6, 6, requires_grad=True)
    target = torch.rand(3, 6, 6) > 0.5
    weight = torch.tensor([1.0, 0.0, 0.5])
    loss = mask_loss(logits, target, weight, 5, 2)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[1].any()
    assert logits.grad[0].any() and logits.grad[2].any()
    target[1] = ~target[1]
    assert torch.equal(mask_loss(logits, target, weight, 5, 2), loss)


def test_nothing_known_teaches_nothing() -> None:
    logits = torch.randn(2, 4, 4, requires_grad=True)
    loss = mask_loss(logits, torch.ones(2, 4, 4) > 0, torch.zeros(2), 5, 2)
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def test_absent_frames_teach_background() -> None:
    logits = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(5), requires_grad=True)
    mask_loss(logits, torch.zeros(1, 6, 6) > 0, torch.ones(1), 5, 2).backward()
    assert logits.grad is not None and (logits.grad > 0).all()


def test_the_loss_of_a_clip_leaves_unknown_frames_out(scenes: list[Scene]) -> None:
    videos, config = Videos(scenes), StudentConfig(short_side=32)
    clip = clip_of(videos, "v0", 0, [0, 1])
    model = tiny_model()

    def loss(first: NDArray[np.bool_], second: FrameSupervision) -> Tensor:
        taught = Clip(clip.images, clip.text, (of_mask(first), second))
        return clip_loss(model, [taught], config, CPU).detach()

    unknown = loss(clip.mask[0], UNKNOWN)
    assert torch.equal(unknown, loss(clip.mask[0], of_mask(~clip.mask[1], 0.0)))
    assert unknown != loss(clip.mask[0], of_mask(clip.mask[1], 0.1))
    assert unknown != loss(~clip.mask[0], UNKNOWN)


def test_without_more_switched_on_the_loss_of_a_step_is_the_mask_loss(scenes: list[Scene]) -> None:
    videos, config, model = Videos(scenes), StudentConfig(short_side=32), tiny_model()
    clip = clip_of(videos, "v0", 0, [0, 1, 2])
    weights = (1.0, 0.25, 0.5)
    taught = tuple(of_mask(mask, w) for mask, w in zip(clip.mask, weights, strict=True))
    found = clip_loss(model, [Clip(clip.images, clip.text, taught)], config, CPU)
    images = prepare_frames(torch.from_numpy(np.stack(clip.images)), 32)
    size = images.shape[2] // 2, images.shape[3] // 2
    logits = F.interpolate(
        model(images, [clip.text] * 3)[:, None], size, mode="bilinear", align_corners=False
    )[:, 0]
    shares = F.interpolate(torch.from_numpy(clip.mask)[:, None].float(), size, mode="area")[:, 0]
    assert torch.equal(found, mask_loss(logits, shares > 0.5, torch.tensor(weights), 5.0, 2.0))


def test_clips_of_different_frame_sizes_share_a_step(scenes: list[Scene]) -> None:
    videos, config, model = Videos(scenes), StudentConfig(short_side=32), tiny_model()
    wide = clip_of(videos, "v0", 0, [0, 1])
    high = Clip(
        tuple(np.ascontiguousarray(image.transpose(1, 0, 2)) for image in wide.images),
        wide.text,
        tuple(of_mask(mask.T) for mask in wide.mask),
    )
    alone = [float(clip_loss(model, [clip], config, CPU).detach()) for clip in (wide, high)]
    both = float(clip_loss(model, [wide, high], config, CPU).detach())
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)


# Clips.


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("the star on the left", "the star on the right"),
        ("a cross to the right of the left one", "a cross to the left of the right one"),
        ("the leftmost circle", "the rightmost circle"),
        ("a bright man in the middle", "a bright man in the middle"),
        ("the star moving up", "the star moving up"),
    ],
)
def test_mirroring_a_sentence(text: str, mirrored: str) -> None:
    assert mirror_sentence(text) == mirrored
    assert mirror_sentence(mirrored) == text


def test_clips_are_the_same_for_the_same_seed(scenes: list[Scene]) -> None:
    def drawn(seed: int) -> list[Clip]:
        clips, rng = (
            Clips(Videos(scenes), PseudoMasks(Videos(scenes)), 3),
            np.random.default_rng(seed),
        )
        return [clips.draw(rng) for _ in range(8)]

    for one, two in zip(drawn(5), drawn(5), strict=True):
        assert one.text == two.text
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(np.stack(one.images), np.stack(two.images))
    assert any(
        one.text != two.text or one.mask.shape != two.mask.shape or (one.mask != two.mask).any()
        for one, two in zip(drawn(5), drawn(6), strict=True)
    )


def test_a_clip_is_frames_of_one_sample_in_order_mirrored_or_not(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    clips, rng = Clips(videos, PseudoMasks(videos), 3), np.random.default_rng(0)
    mirrored = 0
    for _ in range(20):
        clip = clips.draw(rng)
        frames = {
            (video, time, flip): item.image[:, ::-1] if flip else item.image
            for video, drawn in videos.drawn.items()
            for time, item in enumerate(drawn)
            for flip in (False, True)
        }
        found = [
            next(key for key, image in frames.items() if np.array_equal(image, shown))
            for shown in clip.images
        ]
        assert len({(video, flip) for video, _, flip in found}) == 1
        times = [time for _, time, _ in found]
        assert times == sorted(set(times))
        video, _, flip = found[0]
        side = "right" if flip else "left"
        rows = [f"the {item.name} on the {side}" for item in videos.scenes[video].objects]
        truth = np.stack([videos.drawn[video][time].masks[rows.index(clip.text)] for time in times])
        np.testing.assert_array_equal(clip.mask, truth[:, :, ::-1] if flip else truth)
        mirrored += flip
    assert 0 < mirrored < 20


def test_frames_without_weight_are_not_drawn_and_samples_without_any_are_left_out(
    scenes: list[Scene],
) -> None:
    videos = Videos(scenes)
    for key in videos.weights:
        videos.weights[key][:] = 0
    videos.weights["v1", "0"][[1, 3]] = (0.5, 1.0)
    clips, rng = Clips(videos, PseudoMasks(videos), 4), np.random.default_rng(0)
    assert len(clips) == 1
    for _ in range(10):
        clip = clips.draw(rng)
        assert len(clip.images) == 2 and clip.weight.tolist() == [0.5, 1.0]


def test_frames_of_more_weight_come_more_often(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    for key in videos.weights:
        videos.weights[key][:] = 0
    videos.weights["v0", "0"][[0, 2]] = (0.1, 0.9)
    clips, rng = Clips(videos, PseudoMasks(videos), 1), np.random.default_rng(0)
    heavy = [clips.draw(rng).weight[0] > 0.5 for _ in range(60)]
    assert 0.75 < np.mean(heavy) < 1


def test_masks_without_any_weight_are_refused(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    for key in videos.weights:
        videos.weights[key][:] = 0
    with pytest.raises(PseudoLabelError, match="nothing to train on"):
        Clips(videos, PseudoMasks(videos), 2)


# Training and prediction.

CONFIG = StudentConfig(
    steps=160,
    clips_a_step=3,
    frames_a_clip=2,
    short_side=96,
    channels=CHANNELS,
    learning_rate=4e-3,
    backbone_learning_rate=4e-3,
)


def mean_overlap(model: SimRVOS, videos: Videos) -> float:
    """Mean J of a model's masks in the frames where a target shows well."""
    scores = []
    for video_id in videos.video_ids():
        video = videos.video(video_id)
        texts = [item.text for item in videos.expressions(video_id)]
        for part, masks, _ in predict_video(model, videos, video, texts, CONFIG, CPU):
            for row in range(len(texts)):
                for place, time in enumerate(range(part.start, part.stop)):
                    truth = videos.drawn[video_id][time].masks[row]
                    if truth.sum() > 100:
                        scores.append(float(region_similarity(masks[row, place], truth)))
    assert len(scores) > 8
    return float(np.mean(scores))


def test_training_is_the_same_for_the_same_seed(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    config = CONFIG.model_copy(update={"steps": 3, "short_side": 32})
    told: list[tuple[int, int, float]] = []
    runs = [
        train(
            tiny_model(),
            Clips(videos, PseudoMasks(videos), 2),
            config,
            seed=seed,
            device=CPU,
            progress=lambda *step: told.append(step),
        )
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert [step for step, _, _ in told[:3]] == [0, 1, 2]
    assert told[0][1] == 6 and told[0][2] == runs[0][0]


def test_a_learning_rate_of_zero_leaves_the_image_encoder_alone(scenes: list[Scene]) -> None:
    videos, model = Videos(scenes), tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = CONFIG.model_copy(update={"steps": 2, "short_side": 32, "backbone_learning_rate": 0.0})
    train(model, Clips(videos, PseudoMasks(videos), 2), config, seed=0, device=CPU)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("image_encoder."), name


def test_it_learns_two_videos_by_heart(scenes: list[Scene]) -> None:
    videos = Videos(scenes)
    model = tiny_model()
    losses = train(model, Clips(videos, PseudoMasks(videos), 2), CONFIG, seed=0, device=CPU)
    assert np.mean(losses[-10:]) < 0.25 * np.mean(losses[:10])
    assert mean_overlap(model, videos) > 0.9


def test_it_learns_masks_from_boxes_alone(scenes: list[Scene]) -> None:
    class Boxed(Videos):
        def boxes(self, *asked: Any) -> Any:
            mask = self.truth(*asked)
            return masks_to_boxes(mask[None])[: int(mask.any())]

    videos = Boxed(scenes)
    model = tiny_model()
    source = Annotations(videos, videos.samples(), masks=False)
    config = CONFIG.model_copy(update={"mil": True})
    train(model, Clips(videos, source, 2), config, seed=0, device=CPU)
    assert mean_overlap(model, videos) > 0.65


def test_predictions_cover_every_frame_of_every_sentence(scenes: list[Scene]) -> None:
    videos, model = Videos(scenes), tiny_model()
    video = videos.video("v0")
    texts = ["the red star", "the blue circle", "a cross"]
    config = CONFIG.model_copy(update={"short_side": 32})
    seen: list[int] = []
    for part, masks, sure in predict_video(model, videos, video, texts, config, CPU, 3):
        frames = part.stop - part.start
        seen += range(part.start, part.stop)
        assert masks.shape == (3, frames, video.height, video.width) and masks.dtype == bool
        assert sure.shape == (3, frames) and sure.dtype == np.float32
        assert ((sure == 0) | (sure > 0.5)).all() and (sure <= 1).all()
        np.testing.assert_array_equal(sure > 0, masks.any((2, 3)))
    assert seen == list(range(len(video)))


def test_frames_are_resized_by_their_short_side_and_normalised() -> None:
    images = torch.full((2, 40, 80, 3), 124, dtype=torch.uint8)
    prepared = prepare_frames(images, 20)
    assert prepared.shape == (2, 3, 20, 40)
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        expected = (124 / 255 - mean) / std
        assert prepared[:, channel].mean() == pytest.approx(expected, abs=1e-4)
    assert prepare_frames(images[:, :, :20], 20).shape == (2, 3, 40, 20)
    assert prepare_frames(torch.zeros(1, 10, 200, 3, dtype=torch.uint8), 20).shape[3] == 80
