"""ReferFormer: queries are tracks, masks and boxes teach it, and LGCFS and BLCL fit it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config import ReferformerStudentConfig
from stages.student.contract import StepSize
from stages.student.data.clips import Clip
from stages.student.data.supervision import ABSENT, of_boxes, of_mask
from stages.student.referformer.fusion import Fusion
from stages.student.referformer.network import ReferFormerNetwork
from stages.student.referformer.student import ReferFormerStudent
from stages.student.weak.filters import with_coordinates
from tests.fakes.student import CHANNELS, TinyImages, TinyWords
from tests.pipeline.boxes import box_to_mask

HEIGHT, WIDTH = 32, 48


def student(seed: int = 0, **own: Any) -> ReferFormerStudent:
    torch.manual_seed(seed)
    own = {"queries": 3, "decoder_layers": 2, "encoder_layers": 1, "feedforward": 32} | own
    config = ReferformerStudentConfig.model_validate(
        {"short_side": HEIGHT, "channels": CHANNELS, "referformer": own}
    )
    network = ReferFormerNetwork(TinyImages(), TinyWords(), config.referformer, CHANNELS)
    return ReferFormerStudent(network, config)


def clips(kind: str = "mask") -> list[Clip]:
    """Two sentences on the same three frames; a bright square moves, the second is not there."""
    images, given = [], []
    for x in (4, 12, 20):
        box = np.array([x, 8, x + 14, 24], np.float32)
        mask = box_to_mask(box, HEIGHT, WIDTH)
        images.append(np.where(mask[..., None], 220, 40).astype(np.uint8).repeat(3, -1))
        given.append(of_mask(mask) if kind == "mask" else of_boxes(box[None]))
    shown = tuple(images)
    return [Clip(shown, "the bright square", tuple(given)), Clip(shown, "a tree", (ABSENT,) * 3)]


def loss_of(model: ReferFormerStudent, given: list[Clip], epoch: int = 0) -> Tensor:
    weight = float(sum(clip.weight.sum() for clip in given))
    return torch.stack(list(model(given, StepSize(len(given), weight), epoch).values())).sum()


@torch.no_grad()
def test_the_mask_of_a_query_comes_from_its_filters_around_its_reference_point() -> None:
    model = student().eval()
    images = torch.rand(2, 3, HEIGHT, WIDTH)
    found = model.network.look(images, ["a square", "a tree"], [0, 1], [2], [1, 1])
    query = torch.tensor([2, 0])
    masks = found.segmented(-1, query)
    for row in range(2):
        centre = found.centres[-1, row, query[row]]
        cells = with_coordinates(found.features[row : row + 1], centre[None])
        theta = found.theta[-1, row, query[row]]
        expected = found.filters.masks(cells, theta[None])
        torch.testing.assert_close(masks.logits[row : row + 1], expected)


@torch.no_grad()
def test_a_sentence_has_one_query_in_all_frames_that_of_the_best_mean_score() -> None:
    model = student().eval()
    images = torch.randint(0, 255, (3, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    masks = model.predict(images, ["a square", "a tree"])
    assert masks.shape == (2, 3, HEIGHT // 4, WIDTH // 4)
    found = model.network.look(
        model._prepared(images), ["a square"] * 3 + ["a tree"] * 3, [0, 1, 2] * 2, [3], [3, 3]
    )
    for row in range(2):
        part = slice(3 * row, 3 * row + 3)
        best = found.scores[-1][part].sigmoid().mean(0).argmax()
        drawn = found.segmented(-1, best.expand(6)).logits[part]
        torch.testing.assert_close(masks[row], drawn, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_sentences_and_clips_do_not_change_each_other() -> None:
    model = student().eval()
    images = torch.randint(0, 255, (3, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    together = model.predict(images, ["a square", "a tree with leaves"])
    alone = model.predict(images, ["a square"])
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_frames_of_a_clip_see_each_other() -> None:
    model = student().eval()
    images = torch.randint(0, 255, (3, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    found = model.predict(images, ["a square"])[0, 0]
    changed = images.clone()
    changed[2] = 255 - changed[2]
    assert not torch.allclose(model.predict(changed, ["a square"])[0, 0], found, atol=1e-5)


@torch.no_grad()
def test_early_fusion_multiplies_cells_with_what_they_read() -> None:
    fusion = Fusion(8, 2)
    cells, words = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    usable = torch.tensor([[True, True, False], [True, True, True]])
    found = fusion(cells, words, usable)
    read, _ = fusion.attention(cells[:1], words[:1, :2], words[:1, :2])
    torch.testing.assert_close(found[:1], cells[:1] * read)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        pytest.param("mask", {}, marks=pytest.mark.slow),
        ("boxes", {"mil": True, "lgcfs": True, "blcl": True}),
    ],
)
def test_it_learns_a_clip_by_heart(kind: str, own: dict[str, bool]) -> None:
    model, given = student(**own), clips(kind)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = float(loss_of(model, given).detach())
    for _ in range(60):
        optimiser.zero_grad()
        loss = loss_of(model, given, epoch=1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    assert float(loss.detach()) < 0.6 * first
    with torch.no_grad():
        masks = model.eval().predict(torch.from_numpy(np.stack(given[0].images)), [given[0].text])
    truth = clips("mask")[0].mask
    wanted = torch.from_numpy(truth)[:, 2::4, 2::4]
    drawn = masks[0] > 0
    overlap = (drawn & wanted).sum() / (drawn | wanted).sum()
    assert overlap > 0.6


def test_every_part_of_it_learns() -> None:
    model = student(mil=True, lgcfs=True, blcl=True)
    loss_of(model, clips(), epoch=1).backward()
    still = [name for name, value in model.named_parameters() if value.grad is None]
    assert not still


def test_a_step_in_parts_is_the_whole_step() -> None:
    model, given = student(), [*clips(), *clips("boxes")[1:]]
    weight = float(sum(clip.weight.sum() for clip in given))
    step = StepSize(len(given), weight)
    whole = sum(model(given, step, 0).values())
    parts = sum(sum(model(part, step, 0).values()) for part in (given[:2], given[2:]))
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_weights_can_be_saved(tmp_path: Any) -> None:
    from safetensors.torch import load, save

    model = student()
    stored = load(save({name: value.contiguous() for name, value in model.state_dict().items()}))
    other = student(seed=1)
    other.load_state_dict(stored)
    images = torch.randint(0, 255, (2, HEIGHT, WIDTH, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = [item.eval().predict(images, ["a tree"]) for item in (model, other)]
    assert torch.equal(*found)
