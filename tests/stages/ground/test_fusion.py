"""The fusion of text and image that does not project the image, against groundingdino's."""

from __future__ import annotations

import pytest
import torch
from groundingdino.models.GroundingDINO.fuse_modules import BiMultiHeadAttention
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from stages.ground.fusion import FoldedFusion

CELLS, TOKENS = 37, 5


@pytest.fixture(scope="module")
def explicit() -> BiMultiHeadAttention:
    """With biases, and scores that prefer some; both are near nothing at the start."""
    torch.manual_seed(3)
    made = BiMultiHeadAttention(v_dim=24, l_dim=16, embed_dim=48, num_heads=4, dropout=0.0)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            weight.normal_(0, 0.5) if "bias" in name else weight.mul_(2)
    return made


def inputs() -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(6)
    return torch.randn(3, CELLS, 24, generator=made), torch.randn(3, TOKENS, 16, generator=made)


def masks(padded: bool) -> tuple[Tensor | None, Tensor | None]:
    if not padded:
        return None, None
    cells = torch.arange(CELLS) >= torch.tensor([CELLS, 30, 20])[:, None]
    return cells, torch.arange(TOKENS) >= torch.tensor([3, TOKENS, 4])[:, None]


@pytest.mark.parametrize("padded", [False, True])
def test_both_sides_and_their_gradients_are_the_packages(
    explicit: BiMultiHeadAttention, padded: bool
) -> None:
    folded = FoldedFusion(explicit)
    results = []
    for module in (explicit, folded):
        cells, tokens = (item.requires_grad_() for item in inputs())
        found = module(cells, tokens, *masks(padded))
        loss = sum(item.square().sum() for item in found)
        learned = (cells, tokens, *explicit.parameters())
        results.append([*found, *torch.autograd.grad(loss, learned, materialize_grads=True)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        scale = float(theirs.detach().abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(scale, 1))
    assert results[0][0].std() > 0.1 and results[0][1].std() > 0.1


@torch.inference_mode()
def test_no_projected_copy_of_the_cells_is_held(explicit: BiMultiHeadAttention) -> None:
    sizes: list[int] = []

    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = func(*args, **(kwargs or {}))
            sizes.extend(each.numel() for each in [found] if isinstance(each, Tensor))
            return found

    with Watched():
        FoldedFusion(explicit)(*inputs())
    assert max(sizes) < 3 * CELLS * explicit.embed_dim
