"""The student WSRVOS: shapes, what each switch switches, degenerate clips, what adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config import WsrvosConfig
from stages.common.losses import mask_losses
from stages.student.contract import StepSize, Student
from stages.student.data.clips import Clip
from stages.student.data.supervision import ABSENT, UNKNOWN, FrameSupervision, of_mask
from stages.student.wsrvos.fusion import fuse_positives
from stages.student.wsrvos.model import LIFT, Response
from stages.student.wsrvos.refinement import Refinement
from stages.student.wsrvos.student import Wsrvos, expressions_of
from tests.fakes.student import TinyImages, TinyWords

POSITIVES = (("a round thing", 0.9), ("the circle", 0.8))
NEGATIVES = ("the blue square", "a green star")


def student(seed: int = 0, **options: Any) -> Wsrvos:
    torch.manual_seed(seed)
    config = WsrvosConfig(**{"warm_up": 0} | options)
    return Wsrvos(TinyImages(), TinyWords(), config, channels=32, short_side=32)


def clip(
    frames: int = 3,
    size: tuple[int, int] = (32, 48),
    seed: int = 0,
    positives: tuple[tuple[str, float], ...] = POSITIVES,
    negatives: tuple[str, ...] = NEGATIVES,
    supervision: FrameSupervision = UNKNOWN,
) -> Clip:
    rng = np.random.default_rng(seed)
    images = tuple(rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(frames))
    return Clip(images, "the red circle", (supervision,) * frames, positives, negatives)


def moved(model: Wsrvos) -> Wsrvos:
    """With filters of the refinement that are not at their start, where they change nothing."""
    if model.refinement is not None:
        with torch.no_grad():
            for weight in model.refinement.filters[-1].parameters():
                weight.add_(torch.randn_like(weight) * 0.3)
    return model


def losses(model: Student, *clips: Clip, epoch: int = 1) -> dict[str, Tensor]:
    return model(clips, StepSize(len(clips), 1.0), epoch)


def test_masks_are_at_the_finest_stride_and_without_refinement_at_that_of_proposals() -> None:
    images = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    assert student().predict(images, ["a", "b b", "c"]).shape == (3, 2, 8, 12)
    assert student(refinement=False).predict(images, ["a"]).shape == (1, 2, 4, 6)
    finer = student(refinement=False, proposal_level=0)
    assert finer.predict(images, ["a"]).shape == (1, 2, 8, 12)


def test_what_each_block_gives() -> None:
    model = student()
    encoded = model.encode(torch.randn(5, 3, 32, 48), ["x y", "z", "x y"], [2, 3], frozen=True)
    assert encoded.words.shape == (2, 2, 32), "a sentence is encoded once"
    first, second = model.respond(encoded, [(slice(0, 2), ["x y"]), (slice(2, 5), ["z", "x y"])])
    assert first.which.shape == first.where.shape == (1, 2, 24)
    assert second.which.shape == (2, 3, 24) and second.sentence.shape == (2, 3, 32)
    assert second.coarse.shape == (2, 3, 4, 6)
    features = model.features(encoded)
    assert features is not None and features.shape == (5, 32, 8, 12)
    assert model.masks(second, features[2:], slice(1, 2)).shape == (1, 3, 8, 12)
    torch.testing.assert_close(second.which.mean(-1), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_the_coarse_response_is_how_much_likelier_than_by_chance() -> None:
    where = torch.tensor([[[0.0, 0, 0, 0], [np.log(5.0), 0, 0, 0]]], dtype=torch.float64)
    zeros = torch.zeros(1, 2, 4)
    coarse = Response(zeros, where, zeros, (2, 2)).coarse[0]
    assert torch.allclose(coarse[0], torch.full((2, 2), -LIFT).double())
    assert coarse[1, 0, 0].item() == pytest.approx(np.log(4 * 5 / 8) - LIFT)
    many = Response(zeros, 5 * torch.randn(1, 1, 400), zeros, (20, 20)).coarse
    assert 0 < (many > 0).float().mean() < np.exp(-LIFT)


@torch.no_grad()
def test_refinement_starts_as_the_response_carried_up() -> None:
    torch.manual_seed(0)
    layer = Refinement((24, 40), 32)
    coarse, features = torch.randn(2, 3, 4, 6), torch.randn(3, 32, 8, 12)
    found = layer(coarse, features, torch.randn(2, 3, 32))
    upper = nn.functional.interpolate(coarse, (8, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, upper)
    layer.filters[-1].bias[-1] = 2.0
    torch.testing.assert_close(layer(coarse, features, torch.randn(2, 3, 32)), upper + 2)


@torch.no_grad()
def test_a_clip_gives_what_its_sentences_and_frames_give_alone() -> None:
    model = moved(student()).eval()
    images = torch.from_numpy(np.stack(clip().images))
    together = model.predict(images, ["the red circle", "a star"])
    alone = model.predict(images, ["a star"])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    bare = moved(student(refinement=False)).eval()
    whole, last = bare.predict(images, ["a star"]), bare.predict(images[2:], ["a star"])
    torch.testing.assert_close(whole[:, 2:], last, rtol=1e-4, atol=1e-4)


def test_the_terms_are_those_of_the_paper_by_their_weights() -> None:
    one = student(classification_weight=1.0, mask_weight=1.0, ranking_weight=1.0)
    paper = student()
    found, bare = losses(paper, clip(5)), losses(one, clip(5))
    assert list(found) == ["classification", "mask", "ranking"]
    torch.testing.assert_close(found["classification"], bare["classification"])
    torch.testing.assert_close(found["mask"], 2 * bare["mask"])
    torch.testing.assert_close(found["ranking"], bare["ranking"])
    assert found["mask"] > 0 and found["classification"] > 0


def test_parts_of_a_step_sum_to_the_whole_whatever_their_sizes() -> None:
    model = moved(student())
    clips = [clip(3), clip(4, (48, 32), 1), clip(2, (32, 48), 2, negatives=())]
    step = StepSize(3, 9.0)
    whole = model(clips, step, 1)
    parts = [model([item], step, 1) for item in clips]
    for name, value in whole.items():
        summed = sum((part[name] for part in parts), torch.zeros(()))
        torch.testing.assert_close(value, summed, rtol=1e-4, atol=1e-5)


def test_every_trained_weight_has_a_gradient() -> None:
    model = moved(student())
    sum(losses(model, clip(4)).values(), torch.zeros(())).backward()
    without = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.isfinite().all())
    ]
    assert without == []
    assert all(weight.grad is None for weight in model.image_encoder.parameters())


def test_a_frozen_encoder_stays_as_it_predicts_and_another_is_trained() -> None:
    frozen, free = student().train(), student(freeze=False).train()
    assert not frozen.image_encoder.training and free.image_encoder.training
    sum(losses(free, clip()).values(), torch.zeros(())).backward()
    assert all(weight.grad is not None for weight in free.image_encoder.parameters())


# Switches.


def test_selection_keeps_the_attention_to_few_tokens() -> None:
    images = torch.from_numpy(np.stack(clip().images))
    on, off, plenty = student(kept_tokens=1), student(selection=False), student(kept_tokens=99)
    found = [model.eval().predict(images, ["the red circle"]) for model in (on, off, plenty)]
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    torch.testing.assert_close(found[1], found[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["classification", "ranking"])
def test_a_term_that_is_off_is_gone_and_the_others_stay(name: str) -> None:
    with_it, without = losses(student(), clip(4)), losses(student(**{name: False}), clip(4))
    assert with_it.keys() - without.keys() == {name}
    assert all(torch.equal(value, with_it[key]) for key, value in without.items())


@pytest.mark.parametrize("fusion", [True, False])
def test_fusion_decides_what_the_masks_are_held_to(fusion: bool) -> None:
    model = moved(student(fusion=fusion, ranking=False, classification=False))
    item = clip(3)
    logits = mask_logits(model, item)
    target, other = own_masks(model, item, fused=fusion), own_masks(model, item, fused=not fusion)
    assert not torch.equal(other, target)
    each = [mask_losses(row, target, 1.0, 1.0) for row in logits]
    expected = 2 * torch.stack(each).mean()
    torch.testing.assert_close(losses(model, item)["mask"], expected, rtol=1e-4, atol=1e-5)


def own_masks(model: Wsrvos, item: Clip, *, fused: bool) -> Tensor:
    """Of the response carried up, which a refinement of zeros is."""
    plain = student(mask_weight=1.0)
    plain.load_state_dict(model.state_dict())
    assert plain.refinement is not None
    with torch.no_grad():
        for weight in plain.refinement.filters[-1].parameters():
            weight.zero_()
    logits = mask_logits(plain, item)
    found = fuse_positives(logits, torch.tensor([1.0, 0.9, 0.8])) if fused else logits[0]
    return found.sigmoid() > 0.4


def mask_logits(model: Wsrvos, item: Clip) -> Tensor:
    texts = expressions_of(item)[: 1 + len(item.positives)]
    return model.predict(torch.from_numpy(np.stack(item.images)), texts)


# What masks are held to.


@pytest.mark.parametrize("targets", ["own", "given"])
def test_masks_teach_the_response_and_its_refinement(targets: str) -> None:
    mask = np.zeros((32, 48), np.bool_)
    mask[:16, :24] = True
    model = moved(student(classification=False, ranking=False, targets=targets))
    losses(model, clip(supervision=of_mask(mask)))["mask"].backward()
    assert model.which.of_cells.weight.grad is not None and model.which.of_cells.weight.grad.any()
    assert model.refinement is not None
    assert all(weight.grad is not None for weight in model.refinement.pyramid.parameters())


def test_own_masks_wait_for_the_warm_up() -> None:
    model = student(warm_up=2)
    assert losses(model, clip(), epoch=1)["mask"] == 0 < losses(model, clip(), epoch=2)["mask"]


@pytest.mark.parametrize("targets", ["own", "given", "both"])
def test_given_masks_take_the_place_of_own_ones_or_stand_beside_them(targets: str) -> None:
    mask = np.zeros((32, 48), np.bool_)
    mask[:16, :24] = True
    model = moved(student(targets=targets, ranking=False, classification=False))
    item = clip(2, supervision=of_mask(mask, 0.5))
    item = Clip(item.images, item.text, (item.supervision[0], UNKNOWN), POSITIVES, NEGATIVES)
    logits = mask_logits(model, item)
    own = own_masks(model, item, fused=True)
    given = torch.zeros_like(own)
    given[0, :4, :6] = True
    total = torch.zeros(())
    for row in logits:
        own_loss, given_loss = (mask_losses(row, goal, 1.0, 1.0) for goal in (own, given))
        total = (
            total
            + {
                "own": own_loss.sum(),
                "given": 0.5 * given_loss[0] + own_loss[1],
                "both": 0.5 * given_loss[0] + own_loss.sum(),
            }[targets]
        )
    expected = 2 * total / 6
    torch.testing.assert_close(losses(model, item)["mask"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("refinement", [True, False])
def test_masks_of_a_clip_are_made_once_and_every_term_teaches_as_it_does_alone(
    refinement: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((32, 48), np.bool_)
    mask[:16, :24] = True
    options: dict[str, Any] = {"refinement": refinement, "targets": "both"}
    item = clip(4, supervision=of_mask(mask, 0.5))

    def gradients(names: tuple[str, ...]) -> dict[str, Tensor]:
        model = moved(student(**options))
        terms = losses(model, item)
        sum((terms[name] for name in names), torch.zeros(())).backward()
        return {
            name: torch.zeros_like(weight) if weight.grad is None else weight.grad
            for name, weight in model.named_parameters()
        }

    made, masks = list[slice](), Wsrvos.masks

    def counted(model: Wsrvos, response: Response, features: Tensor | None, rows: slice) -> Tensor:
        made.append(rows)
        return masks(model, response, features, rows)

    monkeypatch.setattr(Wsrvos, "masks", counted)
    together = gradients(("classification", "mask", "ranking"))
    assert made == [slice(0, 3)]
    alone = [gradients((name,)) for name in ("classification", "mask", "ranking")]
    for name, found in together.items():
        torch.testing.assert_close(found, sum(each[name] for each in alone), rtol=1e-4, atol=1e-6)


def test_an_absent_target_teaches_background() -> None:
    model = moved(student(targets="given"))
    terms = losses(model, clip(1, supervision=ABSENT), epoch=0)
    before = mask_logits(model, clip(1)).sigmoid().sum()
    terms["mask"].backward()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= 0.01 * weight.grad
    assert mask_logits(model, clip(1)).sigmoid().sum() < before


# Degenerate clips.


@pytest.mark.parametrize("rivals", ["all", "negatives"])
@pytest.mark.parametrize("positives", [(), POSITIVES])
@pytest.mark.parametrize("negatives", [(), NEGATIVES])
@pytest.mark.parametrize("frames", [1, 2])
def test_clips_that_lack_something_still_teach(
    rivals: str,
    positives: tuple[tuple[str, float], ...],
    negatives: tuple[str, ...],
    frames: int,
) -> None:
    model = student(rivals=rivals)
    terms = losses(model, clip(frames, positives=positives, negatives=negatives))
    sum(terms.values(), torch.zeros(())).backward()
    assert terms["ranking"] == 0, "there is no triple"
    assert all(value.isfinite() for value in terms.values())
    grads = [w.grad for w in model.parameters() if w.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def test_text_alone_teaches_where_the_named_object_is() -> None:
    """Two squares on grey; sentences name the colours, no mask is seen. Of the negatives one names
    the other square."""
    torch.manual_seed(0)
    model = student(depths=(0, 1), freeze=False, warm_up=100, refinement=False)
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}

    def scene() -> tuple[np.ndarray[Any, Any], list[str], list[tuple[int, int]]]:
        image = np.full((32, 48, 3), 128, np.uint8)
        names = [str(name) for name in rng.choice(sorted(colours), 2, replace=False)]
        sides = rng.permutation([0, 24]).tolist()
        spots = [(int(rng.integers(4)) * 8, x + int(rng.integers(2)) * 8) for x in sides]
        for name, (y, x) in zip(names, spots, strict=True):
            image[y : y + 8, x : x + 8] = colours[name]
        return image, names, spots

    for _ in range(200):
        clips = []
        for _ in range(4):
            image, names, _ = scene()
            absent = next(name for name in colours if name not in names)
            clips.append(Clip((image,), names[0], (UNKNOWN,), (), (absent,), (names[1],)))
        loss = sum(losses(model, *clips, epoch=0).values(), torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    near = 0
    for _ in range(40):
        image, names, ((y, x), _) = scene()
        place = model.predict(torch.from_numpy(image[None]), names[:1])[0, 0].argmax().item()
        near += abs(place // 6 - y // 8) <= 1 and abs(place % 6 - x // 8) <= 1
    assert near >= 30, "by chance some 13: up to 9 of 24 cells touch the one that is meant"


def test_frames_that_clips_share_are_encoded_once_and_change_nothing() -> None:
    one, other = clip(), clip(seed=1)
    two = Clip(one.images, "a star", one.supervision, (), NEGATIVES)
    apart = Clip(
        tuple(image.copy() for image in one.images), "a star", one.supervision, (), NEGATIVES
    )
    model, seen = moved(student()), list[int]()
    model.image_encoder.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    shared = losses(model, one, other, two)
    assert seen == [6]
    for name, value in losses(model, one, other, apart).items():
        torch.testing.assert_close(shared[name], value)
    assert seen == [6, 9]
