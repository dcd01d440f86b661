"""The equations of WSRVOS against literal loops, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from stages.student.wsrvos.classification import (
    Role,
    classification_loss,
    expression_scores,
)
from stages.student.wsrvos.fusion import fuse_positives, pseudo_masks
from stages.student.wsrvos.ranking import ranking_loss, soft_iou
from stages.student.wsrvos.selection import (
    Interaction,
    MultiHeadCrossAttention,
    cosine_similarity,
    select_tokens,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=made, dtype=torch.float64)


# Selection and interaction.


def slow_cosine(x: Tensor, y: Tensor) -> float:
    dot = sum(float(a * b) for a, b in zip(x, y, strict=True))
    lengths = [math.sqrt(sum(float(a * a) for a in v)) for v in (x, y)]
    return dot / (lengths[0] * lengths[1])


def test_each_modality_keeps_the_tokens_nearest_to_the_other() -> None:
    cells, words = random(2, 7, 4), random(2, 5, 4, seed=1)
    usable = torch.tensor([[True, True, True, False, False], [True] * 5])
    cell_rows, word_rows, are_words = select_tokens(cells, words, usable, 4)
    assert cell_rows.shape == word_rows.shape == (2, 4)
    for p in range(2):
        real = [j for j in range(5) if usable[p, j]]
        of_cell = [max(slow_cosine(cells[p, i], words[p, j]) for j in real) for i in range(7)]
        of_word = {j: max(slow_cosine(cells[p, i], words[p, j]) for i in range(7)) for j in real}
        best = sorted(range(7), key=lambda i: -of_cell[i])[:4]
        assert cell_rows[p].tolist() == best
        kept = [int(j) for j, ok in zip(word_rows[p], are_words[p], strict=True) if ok]
        assert kept == sorted(of_word, key=lambda j: -of_word[j])[:4]


def test_fewer_tokens_than_asked_for_are_all_kept() -> None:
    cells, words = random(1, 3, 4), random(1, 2, 4)
    cell_rows, word_rows, are_words = select_tokens(cells, words, torch.ones(1, 2) > 0, 10)
    assert sorted(cell_rows[0].tolist()) == [0, 1, 2]
    assert sorted(word_rows[0].tolist()) == [0, 1] and are_words.all()


def test_a_token_of_zeros_is_like_nothing() -> None:
    assert cosine_similarity(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)).item() == 0


@torch.no_grad()
def test_attention_is_multi_head_attention_with_a_residual() -> None:
    torch.manual_seed(0)
    layer = MultiHeadCrossAttention(6, 2).double()
    x, y = random(1, 2, 6), random(1, 3, 6, seed=1)
    usable = torch.tensor([[True, False, True]])
    query, key, value = layer.query(x)[0], layer.key(y)[0], layer.value(y)[0]
    for i in range(2):
        joined: list[float] = []
        for head in range(2):
            part = slice(head * 3, head * 3 + 3)
            scores = [float(query[i, part] @ key[j, part]) / math.sqrt(3) for j in (0, 2)]
            raised = [math.exp(score) for score in scores]
            shares = [value_ / sum(raised) for value_ in raised]
            joined += (shares[0] * value[0, part] + shares[1] * value[2, part]).tolist()
        expected = x[0, i] + layer.out(torch.tensor(joined, dtype=torch.float64))
        torch.testing.assert_close(layer(x, y, usable)[0, i], expected)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="10 channels for 4 heads"):
        MultiHeadCrossAttention(10, 4)


@torch.no_grad()
def test_an_interaction_attends_to_the_selected_tokens_alone() -> None:
    torch.manual_seed(0)
    layer = Interaction(4, 2, 2).double()
    cells, words = random(1, 6, 4), random(1, 5, 4, seed=1)
    usable = torch.tensor([[True, True, True, True, False]])
    found_cells, found_words = layer(cells, words, usable)
    normal_cells, normal_words = layer.norm_cells(cells), layer.norm_words(words)
    rows, said, _ = select_tokens(normal_cells, normal_words, usable, 2)
    torch.testing.assert_close(
        found_cells, layer.to_cells(normal_cells, normal_words[:, said[0]]), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        found_words, layer.to_words(normal_words, normal_cells[:, rows[0]]), rtol=1e-6, atol=1e-6
    )
    everything = Interaction(4, 2, None).double()
    everything.load_state_dict(layer.state_dict())
    assert not torch.allclose(everything(cells, words, usable)[0], found_cells)


def test_an_interaction_has_the_gradient_of_its_values() -> None:
    torch.manual_seed(0)
    layer = Interaction(4, 2, 2).double()
    cells, words = random(1, 4, 4).requires_grad_(), random(1, 3, 4, seed=1).requires_grad_()
    usable = torch.ones(1, 3) > 0
    assert gradcheck(lambda a, b: layer(a, b, usable), (cells, words))


# Classification.


def slow_scores(which: Tensor, where: Tensor, roles: list[Role] | None) -> list[list[float]]:
    expressions, frames, cells = which.shape
    found = [[0.0] * frames for _ in range(expressions)]
    for e in range(expressions):
        for t in range(frames):
            place = [math.exp(float(where[e, t, p])) for p in range(cells)]
            for p in range(cells):
                raised = [math.exp(float(which[i, t, p])) for i in range(expressions)]
                rivals = sum(
                    raised[i]
                    for i in range(expressions)
                    if i != e and (roles is None or roles[i] != roles[e])
                )
                found[e][t] += raised[e] / (raised[e] + rivals) * place[p] / sum(place)
    return found


P, N, ELSE = Role.POSITIVE, Role.NEGATIVE, Role.ELSEWHERE


@pytest.mark.parametrize("roles", [None, [P, P, N, N], [P, N, ELSE, ELSE], [P] * 4])
def test_scores_are_shares_of_expressions_by_shares_of_proposals(
    roles: list[Role] | None,
) -> None:
    which, where = random(4, 2, 5), random(4, 2, 5, seed=1)
    found = expression_scores(which, where, None if roles is None else torch.tensor(roles))
    expected = torch.tensor(slow_scores(which, where, roles), dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    assert ((found > 0) & (found < 1 + 1e-9)).all()


def test_one_expression_alone_is_true_whatever_it_sees() -> None:
    which, where = random(1, 2, 5), random(1, 2, 5)
    torch.testing.assert_close(expression_scores(which, where), torch.ones(1, 2).double())
    alone = torch.tensor([P])
    torch.testing.assert_close(expression_scores(which, where, alone), torch.ones(1, 2).double())


def test_classification_is_cross_entropy_of_the_mean_over_frames() -> None:
    scores = torch.tensor([[0.9, 0.5], [0.2, 0.4], [0.1, 0.0]])
    found = classification_loss(scores, torch.tensor([True, False, False]))
    expected = -(math.log(0.7) + math.log(1 - 0.3) + math.log(1 - 0.05)) / 3
    assert found.item() == pytest.approx(expected, rel=1e-5)
    sure = classification_loss(torch.tensor([[1.0], [0.0]]), torch.tensor([True, False]))
    wrong = classification_loss(torch.tensor([[0.0], [1.0]]), torch.tensor([True, False]))
    assert sure.item() < 1e-5 and 10 < wrong.item() < 20


@pytest.mark.parametrize("roles", [[P, P, N], [P, N, N], [P, N, ELSE]])
@pytest.mark.parametrize("literal", [True, False])
def test_classification_has_the_gradient_of_its_values(roles: list[Role], literal: bool) -> None:
    labels = torch.tensor(roles)
    inputs = random(3, 2, 3).requires_grad_(), random(3, 2, 3, seed=1).requires_grad_()

    def loss(which: Tensor, where: Tensor) -> Tensor:
        scores = expression_scores(which, where, None if literal else labels)
        return classification_loss(scores, labels != N)

    assert gradcheck(loss, inputs)


# Fusion.


def test_fusion_is_the_mean_by_confidence_above_the_threshold() -> None:
    logits, confidence = random(3, 2, 2, 2), torch.tensor([1.0, 0.9, 0.3]).double()
    fused = fuse_positives(logits, confidence)
    masks = pseudo_masks(fused, 0.4)
    for t in range(2):
        for y in range(2):
            for x in range(2):
                value = sum(
                    c / (1.0 + 0.9 + 0.3) * float(logits[k, t, y, x])
                    for k, c in enumerate((1.0, 0.9, 0.3))
                )
                assert float(fused[t, y, x]) == pytest.approx(value)
                assert bool(masks[t, y, x]) == (1 / (1 + math.exp(-value)) > 0.4)
    assert torch.equal(fuse_positives(logits[:1], confidence[:1]), logits[0])


def test_a_pseudo_mask_has_no_gradient() -> None:
    assert not pseudo_masks(random(1, 2, 2).requires_grad_(), 0.4).requires_grad


# Ranking.


def slow_soft_iou(p: Tensor, q: Tensor) -> float:
    shared = sum(float(a * b) for a, b in zip(p.flatten(), q.flatten(), strict=True))
    either = sum(float(a + b - a * b) for a, b in zip(p.flatten(), q.flatten(), strict=True))
    return shared / either


def test_ranking_is_the_mean_over_triples() -> None:
    logits = 3 * random(5, 2, 3)
    chance = logits.sigmoid()
    terms = []
    for t in range(5):
        for l in range(t + 1, 5):  # noqa: E741
            for n in range(l + 1, 5):
                far, near = (slow_soft_iou(chance[t], chance[other]) for other in (n, l))
                terms.append(max(0.0, far - near - 0.1))
    assert len(terms) == 10 and sum(term > 0 for term in terms) > 1
    assert ranking_loss(logits, 0.1).item() == pytest.approx(sum(terms) / 10, rel=1e-5)


def test_soft_iou_of_masks_is_iou_and_of_empty_ones_0() -> None:
    masks = torch.tensor([[[1.0, 1, 0]], [[0, 1, 1]], [[0, 0, 0]], [[0, 0, 0]]])
    found = soft_iou(masks)
    assert found[0, 1].item() == pytest.approx(1 / 3) and found[0, 0].item() == 1
    assert found[0, 2].item() == found[2, 3].item() == 0


def test_ranking_has_a_gradient_and_following_it_mends_the_order() -> None:
    logits = torch.tensor([[[4.0, -4, -4]], [[-4, 4, -4]], [[4, -4, -4]]]).double()
    start = logits.requires_grad_()
    assert gradcheck(lambda x: ranking_loss(x, 0.1), (start,))
    loss = ranking_loss(start, 0.1)
    (slope,) = torch.autograd.grad(loss, start)
    assert slope.abs().sum() > 1e-3
    assert ranking_loss(start - 20 * slope, 0.1) < loss


@pytest.mark.parametrize("frames", [1, 2])
def test_without_a_triple_ranking_is_0_and_can_still_be_differentiated(frames: int) -> None:
    logits = random(frames, 2, 2).requires_grad_()
    loss = ranking_loss(logits, 0.1)
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()
