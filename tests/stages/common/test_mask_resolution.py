"""Low-resolution logits and the frame: what is cut off is only padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from stages.common.mask_resolution import enlarge, input_size, low_resolution_size, mask_above

SIDE = 128
FRAMES = [(144, 256), (256, 144), (200, 200), (37, 101), (101, 37), (480, 853), (3, 300)]


def expected(low: Tensor, height: int, width: int) -> Tensor:
    """What the package makes of uncropped logits."""
    sam = Sam.__new__(Sam)
    torch.nn.Module.__init__(sam)
    sam.image_encoder = torch.nn.Module()
    sam.image_encoder.img_size = SIDE
    size = ResizeLongestSide.get_preprocess_shape(height, width, SIDE)
    return sam.postprocess_masks(low[:, None], size, (height, width))[:, 0]


def cut_to(low: Tensor, height: int, width: int) -> Tensor:
    rows, columns = low_resolution_size(height, width, SIDE)
    return low[:, :rows, :columns]


@pytest.mark.parametrize(("height", "width"), FRAMES)
def test_enlarging_what_was_cut_equals_the_package(height: int, width: int) -> None:
    low = torch.randn(3, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(1)) * 8
    cut = cut_to(low, height, width)
    torch.testing.assert_close(
        enlarge(cut, height, width), expected(low, height, width), rtol=0, atol=1e-4
    )


@given(st.integers(1, 700), st.integers(1, 700))
def test_the_long_side_is_kept_and_the_short_side_is_cut(height: int, width: int) -> None:
    low = torch.zeros(1, SIDE // 4, SIDE // 4)
    cut = cut_to(low, height, width)
    assert max(cut.shape[1:]) == SIDE // 4
    inner = input_size(height, width, SIDE)
    for cells, pixels in zip(cut.shape[1:], inner, strict=True):
        assert pixels <= 4 * cells <= max(pixels + 8, 4)
    assert enlarge(cut, height, width).shape == (1, height, width)


def test_the_input_size_is_the_packages() -> None:
    for height in range(1, 400, 7):
        for width in range(1, 400, 11):
            if max(height, width) / min(height, width) < 200:
                theirs = ResizeLongestSide.get_preprocess_shape(height, width, SIDE)
                assert input_size(height, width, SIDE) == theirs


def test_no_masks_are_no_masks() -> None:
    none = torch.zeros(0, 8, 16, dtype=torch.float16)
    assert enlarge(none, 50, 100).shape == (0, 50, 100)
    assert enlarge(none, 50, 100).dtype == torch.float32


def test_half_precision_logits_give_the_same_mask_but_at_the_edge() -> None:
    low = torch.randn(2, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(2)) * 4
    full = enlarge(cut_to(low, 90, 160), 90, 160)
    half = enlarge(cut_to(low, 90, 160).half(), 90, 160)
    differs = (full > 0) != (half > 0)
    assert not differs[full.abs() > 0.02].any()


@pytest.mark.parametrize(("height", "width"), FRAMES)
@pytest.mark.parametrize("cut", [-0.4, 0.0, 1.2])
def test_a_mask_is_where_the_enlarged_logits_are_above(height: int, width: int, cut: float) -> None:
    rows, columns = low_resolution_size(height, width, SIDE)
    noise = torch.randn(12, rows, columns, generator=torch.Generator().manual_seed(3))
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, rows), torch.linspace(-1, 1, columns), indexing="ij"
    )
    shown = set()
    for number, low in enumerate(noise):
        # Smaller and smaller, in the middle and at the edges; the last are nowhere above.
        far = torch.maximum((y - number % 3 + 1).abs(), (x - number % 2).abs())
        low = (low + 8 - 3 * number * far).half()
        if number > 9:
            low = low.clamp(max=cut - 0.1).half()
        expected = enlarge(low[None], height, width)[0]
        mask = mask_above(low, height, width, cut)
        assert (mask.shape, mask.dtype) == ((height, width), torch.bool)
        differs = mask != (expected > cut)
        assert not differs[(expected - cut).abs() > 1e-4].any()
        shown.add(round(float(mask.float().mean()), 1))
    assert 0.0 in shown and len(shown) > 2
