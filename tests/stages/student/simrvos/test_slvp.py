"""What optical flow teaches: shares of the pixels with one motion each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config import SlvpConfig
from pipeline.ports import Image
from stages.student.data.clips import Clip
from stages.student.data.supervision import UNKNOWN, of_flow
from stages.student.simrvos.slvp import motion_terms, shares, unexplained

GRID = (24, 32)
ONE, TWO = (slice(4, 12), slice(4, 12)), (slice(12, 20), slice(18, 28))


def claim(*places: tuple[slice, slice]) -> Tensor:
    """What a sentence claims of one frame that it is sure of: [1, n]."""
    found = torch.zeros(1, *GRID)
    for place in places:
        found[0][place] = 1
    return found.flatten(1)


def flow_of(one: tuple[float, float], two: tuple[float, float]) -> Tensor:
    """Two things that move in front of what stands still: [h, w, 2]."""
    flow = torch.zeros(*GRID, 2)
    flow[ONE], flow[TWO] = torch.tensor(one), torch.tensor(two)
    return flow


def rest(flow: Tensor, *claims: Tensor) -> float:
    return float(unexplained(shares(torch.stack(claims)), flow.reshape(1, -1, 2), GRID))


def test_shares_sum_to_one_and_sentences_of_one_target_share_it() -> None:
    share = shares(torch.stack([claim(ONE), claim(ONE), claim(TWO)]))
    assert share.shape == (1, 4, GRID[0] * GRID[1])
    torch.testing.assert_close(share.sum(1), torch.ones(1, GRID[0] * GRID[1]))
    frame = share[0].unflatten(1, GRID)
    assert frame[:, 5, 5].tolist() == [0.5, 0.5, 0, 0]
    assert frame[:, 15, 20].tolist() == [0, 0, 1, 0]
    assert frame[:, 0, 0].tolist() == [0, 0, 0, 1]


def test_the_right_masks_explain_the_flow() -> None:
    flow = flow_of((3, 0), (-1, 2))
    right = rest(flow, claim(ONE), claim(TWO))
    assert right < 0.05
    assert rest(flow, claim(ONE), claim(ONE), claim(TWO)) == pytest.approx(right, abs=5e-3)
    assert right + 0.2 < rest(flow, claim(ONE)) < 0.8
    assert rest(flow, claim()) > 0.85


def test_the_camera_moves_everything() -> None:
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in GRID), indexing="ij")
    camera = torch.stack([5 + 2 * x, 3 * y], -1)
    assert rest(camera, claim()) < 0.1
    moving = camera + flow_of((3, 0), (-1, 2))
    found = [rest(moving, *claims) for claims in ((claim(ONE), claim(TWO)), (claim(ONE),))]
    assert found[0] < 0.15 < found[1] < rest(moving, claim())


def test_what_is_not_known_has_no_say() -> None:
    flow = flow_of((3, 0), (-1, 2))
    flow[ONE] = torch.nan
    logits = torch.zeros(2, 1, GRID[0] * GRID[1], requires_grad=True)
    value = unexplained(shares(logits.sigmoid()), flow.reshape(1, -1, 2), GRID)
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    gradient = logits.grad.unflatten(-1, GRID)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 0][:, *ONE] == 0).all() and (gradient[:, 0][:, *TWO] != 0).all()


def test_flow_that_is_not_known_at_all_costs_nothing() -> None:
    flow = torch.full((*GRID, 2), torch.nan)
    assert rest(flow, claim(ONE)) == 0


def test_from_a_hint_each_sentence_comes_to_its_own_thing() -> None:
    flow = flow_of((3, 0), (-1, 2)).reshape(1, -1, 2)
    logits = torch.full((2, 1, *GRID), -1.0)
    logits[0, 0, 7:10, 7:10] = logits[1, 0, 15:18, 21:24] = 1.0
    logits = logits.flatten(2).requires_grad_()
    optimiser = torch.optim.Adam([logits], 0.2)
    for _ in range(300):
        optimiser.zero_grad()
        chance = logits.sigmoid()
        loss = unexplained(shares(chance), flow, GRID).sum() + 0.5 * chance.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = logits.detach() > 0
    for row, place in enumerate((ONE, TWO)):
        wanted, others = claim(place).bool(), claim((TWO, ONE)[row]).bool()
        overlap = (found[row] & wanted).sum() / (found[row] | wanted).sum()
        assert overlap > 0.6
        assert (found[row] & others).sum() / others.sum() < 0.25


def clip_of(flow: Tensor, text: str, images: tuple[Image, ...], known: int = 2) -> Clip:
    each = [of_flow(flow.numpy()), of_flow(-flow.numpy())]
    return Clip(images, text, (*each[:known], *[UNKNOWN] * (2 - known)))


def test_sentences_on_the_same_frames_compete_and_parts_of_a_step_add_up() -> None:
    flow, config = flow_of((3, 0), (-1, 2)), SlvpConfig()
    frames = [tuple(np.zeros((*GRID, 3), np.uint8) for _ in range(2)) for _ in range(2)]
    clips = [
        clip_of(flow, "one", frames[0]),
        clip_of(flow, "two", frames[0]),
        clip_of(flow, "other", frames[1], known=1),
    ]
    logits = torch.randn(6, *GRID, generator=torch.Generator().manual_seed(0))
    whole = motion_terms(logits, clips, config, GRID, 5.0)
    parts = [
        motion_terms(logits[:4], clips[:2], config, GRID, 5.0),
        motion_terms(logits[4:], clips[2:], config, GRID, 5.0),
    ]
    for name in ("motion", "area"):
        torch.testing.assert_close(whole[name], parts[0][name] + parts[1][name])
    alone = sum(
        motion_terms(logits[row : row + 2], [clips[row // 2]], config, GRID, 5.0)["motion"]
        for row in (0, 2)
    )
    assert parts[0]["motion"] != alone, "each explains what the other one does not"
    unknown = logits.clone()
    unknown[5] += 1
    torch.testing.assert_close(motion_terms(unknown, clips, config, GRID, 5.0), whole)
